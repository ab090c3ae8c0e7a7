/* The oracle: `solve` of the Python class, action for action. It knows only what its actions return. */
#ifndef ORACLE_H
#define ORACLE_H

#include "arena.h"

/* Plays the episode up to `Done`. The record holds two frames for each action: itself and its observation.
 * Returns false when it wanted more than `max_calls` actions. */
bool oracle_play(uint32_t max_calls, Text *record);

/* Puts a record as JSON: the actions, and the observations. */
void put_record(Text record);

#endif

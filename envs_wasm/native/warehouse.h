/* The environment of `Native_01_I__WarehouseEnv.py`: a robot on a graph fills an order. It holds one episode.
 *
 * Observations and messages are those of the Python class, byte for byte, for every config and action that
 * `json.loads` takes and that is nested at most 512 deep.
 */
#ifndef WAREHOUSE_H
#define WAREHOUSE_H

#include "arena.h"

#define WAREHOUSE_MAX_NODES 256
#define WAREHOUSE_MAX_ITEMS 256

/* The class that this environment is. */
extern const char *const WAREHOUSE_CLASS;

/* Starts an episode. Returns NULL, or what is wrong with the config; there is then no episode. */
const char *warehouse_reset(Text config);

bool warehouse_is_loaded(void);

/* One action; puts the observation. */
void warehouse_step(Text action);

/* Whether `Done` was called. */
bool warehouse_is_finished(void);

int warehouse_reward(void);
int64_t warehouse_answer(void);

#endif

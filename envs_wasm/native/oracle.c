#include "oracle.h"

#include <string.h>

#include "json.h"
#include "warehouse.h"

typedef struct {
    Text name; /* a JSON string */
    int64_t quantity;
} Missing;

static uint32_t calls_left;
static bool wants_more_calls;

static Missing missing[WAREHOUSE_MAX_ITEMS];
static int missing_count;

/* A walk in depth: the path back to the start, and per node that was asked the neighbors not yet tried. */
static int path[WAREHOUSE_MAX_NODES];
static bool is_seen[WAREHOUSE_MAX_NODES], is_asked[WAREHOUSE_MAX_NODES];
static JsonWalk untried[WAREHOUSE_MAX_NODES];

/* Takes an action with a whole number as parameter, and an item where its length is not 0. Returns what came
 * back, which is JSON as no action of this file fails; NULL when no call or no memory is left. */
static const char *call_with(const char *tool, Text item, const char *key, int64_t value)
{
    if (calls_left == 0) {
        wants_more_calls = true;
        return NULL;
    }
    calls_left--;
    char *frame = frame_open();
    put("{\"name\": \"");
    put(tool);
    put("\", \"parameters\": {");
    if (item.length > 0) {
        put("\"item\": ");
        put_text(item);
        put(", ");
    }
    if (key != NULL) {
        put("\"");
        put(key);
        put("\": ");
        put_whole(value);
    }
    put("}}");
    Text action = frame_close(frame);
    frame = frame_open();
    if (arena_is_exhausted()) {
        return NULL;
    }
    warehouse_step(action);
    Text observation = frame_close(frame);
    return arena_is_exhausted() ? NULL : json_value(observation);
}

static const char *call(const char *tool, const char *key, int64_t value)
{
    return call_with(tool, (Text){NULL, 0}, key, value);
}

static int64_t whole_member(const char *object, const char *key)
{
    int64_t whole = 0;
    json_whole(json_member(object, key), &whole);
    return whole;
}

static void read_missing(const char *object)
{
    missing_count = 0;
    for (JsonWalk walk = json_walk(object); json_next(&walk); missing_count++) {
        missing[missing_count].name = json_text(walk.key);
        json_whole(walk.value, &missing[missing_count].quantity);
    }
}

static Missing *find_missing(Text name)
{
    for (int index = 0; index < missing_count; index++) {
        Missing *found = &missing[index];
        if (found->name.length == name.length && memcmp(found->name.start, name.start, name.length) == 0) {
            return found;
        }
    }
    return NULL;
}

static bool is_anything_missing(void)
{
    for (int index = 0; index < missing_count; index++) {
        if (missing[index].quantity > 0) {
            return true;
        }
    }
    return false;
}

/* Picks up what of these items is missing; returns false when a call failed. */
static bool pick_up_missing(const char *items)
{
    for (JsonWalk walk = json_walk(items); json_next(&walk);) {
        Text name = json_text(walk.key);
        Missing *wanted = find_missing(name);
        int64_t here = 0;
        json_whole(walk.value, &here);
        if (wanted != NULL && wanted->quantity > 0) {
            int64_t picked = here < wanted->quantity ? here : wanted->quantity;
            if (call_with("PickUp", name, "quantity", picked) == NULL) {
                return false;
            }
            wanted->quantity -= picked;
        }
    }
    return true;
}

/* The next neighbor in a list that was not seen yet; -1 when there is none. */
static int next_unseen(JsonWalk *neighbors)
{
    while (json_next(neighbors)) {
        int node = (int)whole_member(neighbors->value, "node");
        if (!is_seen[node]) {
            return node;
        }
    }
    return -1;
}

/* Walks until nothing is missing or everything was seen; returns false when a call failed. */
static bool fill_order(int start, const char *items)
{
    int length = 1;
    memset(is_seen, 0, sizeof is_seen);
    memset(is_asked, 0, sizeof is_asked);
    path[0] = start;
    is_seen[start] = true;
    for (;;) {
        if (!pick_up_missing(items)) {
            return false;
        }
        if (!is_anything_missing()) {
            return true;
        }
        int node = path[length - 1];
        if (!is_asked[node]) {
            const char *neighbors = call("GetNeighbors", "node", node);
            if (neighbors == NULL) {
                return false;
            }
            untried[node] = json_walk(neighbors);
            is_asked[node] = true;
        }
        int next = next_unseen(&untried[node]);
        if (next >= 0) {
            path[length++] = next; /* nodes on a path differ, so it fits */
            is_seen[next] = true;
        } else if (--length == 0) {
            return true;
        }
        const char *arrival = call("MoveTo", "node", path[length - 1]);
        if (arrival == NULL) {
            return false;
        }
        items = json_member(arrival, "items");
    }
}

static void solve(void)
{
    const char *start = call("Observe", NULL, 0);
    if (start == NULL) {
        return;
    }
    read_missing(json_member(start, "missing"));
    const char *route = call("EstimateRoute", "target", whole_member(start, "target"));
    if (route == NULL) {
        return;
    }
    int64_t answer = whole_member(route, "cost");
    if (fill_order((int)whole_member(start, "position"), json_member(start, "items"))) {
        call("Done", "answer", answer);
    }
}

bool oracle_play(uint32_t max_calls, Text *record)
{
    calls_left = max_calls;
    wants_more_calls = false;
    const char *first = arena_top();
    solve();
    *record = text_since(first);
    return !wants_more_calls;
}

/* Every second frame of a record, as a JSON list of strings. */
static void put_frames(Text record, bool is_second)
{
    const char *at = record.start, *end = at + record.length;
    bool is_first = true;
    put("[");
    while (at < end) {
        Text action = frame_next(&at, end), observation = frame_next(&at, end);
        put(is_first ? "" : ", ");
        put_json_string(is_second ? observation : action);
        is_first = false;
    }
    put("]");
}

void put_record(Text record)
{
    put("{\"actions\": ");
    put_frames(record, false);
    put(", \"observations\": ");
    put_frames(record, true);
    put("}");
}

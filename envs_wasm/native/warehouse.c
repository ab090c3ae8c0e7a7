#include "warehouse.h"

#include <string.h>

#include "json.h"

#define MAX_NODES WAREHOUSE_MAX_NODES
#define MAX_ITEMS WAREHOUSE_MAX_ITEMS
#define MAX_EDGES 4096
#define MAX_STOCK 2048
#define MAX_NAME 40
#define MAX_AMOUNT 1000000

#define TEXT_OF(tokens) #tokens
#define TEXT(macro) TEXT_OF(macro)
#define AMOUNTS "names of 1 to " TEXT(MAX_NAME) " characters, quantities from 1 to " TEXT(MAX_AMOUNT)

const char *const WAREHOUSE_CLASS = "WarehouseEnv";

static const char BAD_N[] = "n must be a whole number from 1 to " TEXT(MAX_NODES);
static const char BAD_EDGES[] =
    "edges must be at most " TEXT(MAX_EDGES) " lists of two nodes and a cost from 1 to " TEXT(MAX_AMOUNT);
static const char BAD_STOCK[] =
    "stock must map nodes to items to quantities: "
    "at most " TEXT(MAX_STOCK) " entries of " TEXT(MAX_ITEMS) " items, " AMOUNTS;
static const char BAD_ORDER[] =
    "order must map items to quantities: with the stock at most " TEXT(MAX_ITEMS) " items, " AMOUNTS;
static const char BAD_TARGET[] = "target must be a node";

static const char DEFAULT_CONFIG[] =
    "{\"n\": 5, \"edges\": [[0, 1, 4], [0, 2, 1], [1, 2, 2], [1, 3, 5], [3, 4, 3]],"
    " \"stock\": {\"1\": {\"bolt\": 3}, \"3\": {\"bolt\": 1, \"nut\": 2}},"
    " \"order\": {\"bolt\": 2, \"nut\": 1}, \"target\": 4}";

/* An item's name as `json.dumps` writes it: equal names have equal bytes, and none is escaped twice. */
typedef struct {
    char bytes[2 + MAX_NAME * JSON_ESCAPE_BYTES];
    size_t length;
} Name;

typedef struct {
    int item; /* index into `names` */
    int64_t quantity;
} Amount;

/* A part of an array of amounts, in the order in which a Python dict would keep it. */
typedef struct {
    Amount *first;
    int count;
} Amounts;

typedef struct {
    int from, to, cost;
} Edge;

static Name names[MAX_ITEMS];
static int name_count;

static Edge edges[2 * MAX_EDGES]; /* each in both directions, sorted */
static int first_edge[MAX_NODES + 1];

static Amount stock[MAX_STOCK], order_amounts[MAX_ITEMS], bag_amounts[MAX_ITEMS];
static Amounts shelves[MAX_NODES], order, bag;

static bool is_loaded, is_finished;
static int node_count, position, target, reward;
static int64_t walk_cost, step_count;

/* ---- Items. ---- */

/* The name that a string spells; its length is 0 where it spells none. */
static void read_name(const char *string, Name *name)
{
    const char *at = string + 1;
    size_t length = 0;
    int characters = 0;
    name->length = 0;
    name->bytes[length++] = '"';
    for (uint32_t c; (c = json_character(&at)) != JSON_STRING_END; characters++) {
        if (characters == MAX_NAME) {
            return;
        }
        length += json_escape(c, name->bytes + length);
    }
    name->bytes[length++] = '"';
    name->length = characters > 0 ? length : 0;
}

/* The item with a name, or -1. */
static int find_item(const Name *name)
{
    for (int item = 0; item < name_count; item++) {
        if (names[item].length == name->length && memcmp(names[item].bytes, name->bytes, name->length) == 0) {
            return item;
        }
    }
    return -1;
}

/* The item that a string names, new or known; -1 if it is no name, or one too many. */
static int intern_item(const char *string)
{
    Name name;
    read_name(string, &name);
    if (name.length == 0) {
        return -1;
    }
    int item = find_item(&name);
    if (item < 0 && name_count < MAX_ITEMS) {
        item = name_count++;
        names[item].length = name.length;
        memcpy(names[item].bytes, name.bytes, name.length);
    }
    return item;
}

static Amount *find_amount(Amounts amounts, int item)
{
    for (int index = 0; index < amounts.count; index++) {
        if (amounts.first[index].item == item) {
            return &amounts.first[index];
        }
    }
    return NULL;
}

static int64_t quantity_of(Amounts amounts, int item)
{
    const Amount *amount = find_amount(amounts, item);
    return amount == NULL ? 0 : amount->quantity;
}

static void put_name(int item)
{
    put_text((Text){names[item].bytes, names[item].length});
}

static void put_amount(int item, int64_t quantity, bool is_first)
{
    put(is_first ? "" : ", ");
    put_name(item);
    put(": ");
    put_whole(quantity);
}

static void put_amounts(Amounts amounts)
{
    put("{");
    for (int index = 0; index < amounts.count; index++) {
        put_amount(amounts.first[index].item, amounts.first[index].quantity, index == 0);
    }
    put("}");
}

/* ---- The config. ---- */

static bool is_object(const char *value)
{
    return *value == '{';
}

static bool is_whole(const char *value, int64_t low, int64_t high, int *whole)
{
    int64_t wide;
    if (!json_whole(value, &wide) || wide < low || wide > high) {
        return false;
    }
    *whole = (int)wide;
    return true;
}

static bool is_node(const char *value, int *node)
{
    return is_whole(value, 0, node_count - 1, node);
}

/* Whether a value maps at most `room` items to quantities. A repeated key keeps its first place and gets its
 * last value, as in a Python dict. */
static bool read_amounts(const char *value, Amounts *amounts, int room)
{
    if (!is_object(value)) {
        return false;
    }
    for (JsonWalk walk = json_walk(value); json_next(&walk);) {
        int item = intern_item(walk.key), quantity;
        if (item < 0) {
            return false;
        }
        Amount *amount = find_amount(*amounts, item);
        if (amount == NULL) {
            if (amounts->count == room) {
                return false;
            }
            amount = &amounts->first[amounts->count++];
        }
        /* 0 stands for a bad value, which a repeated key may still replace. */
        *amount = (Amount){item, is_whole(walk.value, 1, MAX_AMOUNT, &quantity) ? quantity : 0};
    }
    for (int index = 0; index < amounts->count; index++) {
        if (amounts->first[index].quantity == 0) {
            return false;
        }
    }
    return true;
}

static bool is_before(Edge a, Edge b)
{
    if (a.from != b.from) {
        return a.from < b.from;
    }
    return a.to != b.to ? a.to < b.to : a.cost < b.cost;
}

/* Moves the edge at `root` down until no child is greater. */
static void sift_down(int root, int count)
{
    for (int child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && is_before(edges[child], edges[child + 1])) {
            child++;
        }
        if (!is_before(edges[root], edges[child])) {
            return;
        }
        Edge parent = edges[root];
        edges[root] = edges[child];
        edges[child] = parent;
    }
}

/* A heapsort: its time has a bound whatever the config holds. */
static void sort_edges(int count)
{
    for (int root = count / 2 - 1; root >= 0; root--) {
        sift_down(root, count);
    }
    for (int last = count - 1; last > 0; last--) {
        Edge greatest = edges[0];
        edges[0] = edges[last];
        edges[last] = greatest;
        sift_down(0, last);
    }
}

static bool read_edge(const char *value, Edge *edge)
{
    if (*value != '[') {
        return false;
    }
    JsonWalk walk = json_walk(value);
    return json_next(&walk) && is_node(walk.value, &edge->from) && json_next(&walk) &&
           is_node(walk.value, &edge->to) && edge->from != edge->to && json_next(&walk) &&
           is_whole(walk.value, 1, MAX_AMOUNT, &edge->cost) && !json_next(&walk);
}

static bool read_edges(const char *value)
{
    int count = 0;
    if (*value != '[') {
        return false;
    }
    for (JsonWalk walk = json_walk(value); json_next(&walk); count += 2) {
        Edge edge;
        if (count == 2 * MAX_EDGES || !read_edge(walk.value, &edge)) {
            return false;
        }
        edges[count] = edge;
        edges[count + 1] = (Edge){edge.to, edge.from, edge.cost};
    }
    sort_edges(count);
    for (int node = 0, index = 0; node <= node_count; node++) {
        while (index < count && edges[index].from < node) {
            index++;
        }
        first_edge[node] = index;
    }
    return true;
}

/* The node that a string spells in decimal digits, without a leading zero; -1 where it spells none. */
static int spelled_node(const char *string)
{
    const char *at = string + 1;
    int node = -1;
    for (uint32_t c; (c = json_character(&at)) != JSON_STRING_END;) {
        if (c < '0' || c > '9' || node == 0) {
            return -1;
        }
        node = (node < 0 ? 0 : 10 * node) + (int)(c - '0');
        if (node >= node_count) {
            return -1;
        }
    }
    return node;
}

static bool read_stock(const char *value)
{
    const char *items[MAX_NODES] = {NULL};
    if (!is_object(value)) {
        return false;
    }
    for (JsonWalk walk = json_walk(value); json_next(&walk);) {
        int node = spelled_node(walk.key);
        if (node < 0) {
            return false;
        }
        items[node] = walk.value;
    }
    int used = 0;
    for (int node = 0; node < node_count; node++) {
        shelves[node] = (Amounts){stock + used, 0};
        if (items[node] != NULL && !read_amounts(items[node], &shelves[node], MAX_STOCK - used)) {
            return false;
        }
        used += shelves[node].count;
    }
    return true;
}

static const char *option(const char *config, const char *key)
{
    const char *value = json_member(config, key);
    return value == NULL ? json_member(DEFAULT_CONFIG, key) : value;
}

static const char *read_config(Text text)
{
    if (!json_is_valid(text)) {
        return "the config is not JSON";
    }
    const char *config = json_value(text);
    if (*config == 'n') { /* null */
        config = DEFAULT_CONFIG;
    }
    if (!is_object(config)) {
        return "the config must be an object";
    }
    if (!is_whole(option(config, "n"), 1, MAX_NODES, &node_count)) {
        return BAD_N;
    }
    if (!read_edges(option(config, "edges"))) {
        return BAD_EDGES;
    }
    if (!read_stock(option(config, "stock"))) {
        return BAD_STOCK;
    }
    if (!read_amounts(option(config, "order"), &order, MAX_ITEMS)) {
        return BAD_ORDER;
    }
    return is_node(option(config, "target"), &target) ? NULL : BAD_TARGET;
}

const char *warehouse_reset(Text config)
{
    name_count = 0;
    order = (Amounts){order_amounts, 0};
    bag = (Amounts){bag_amounts, 0};
    position = reward = 0;
    walk_cost = step_count = 0;
    is_finished = false;
    const char *problem = read_config(config);
    is_loaded = problem == NULL;
    return problem;
}

/* ---- The graph. ---- */

/* What the cheapest route between two nodes costs, or -1. Dijkstra by scanning: the nodes are few. */
static int64_t distance(int start, int end)
{
    int64_t best[MAX_NODES];
    bool is_settled[MAX_NODES] = {false};
    for (int node = 0; node < node_count; node++) {
        best[node] = INT64_MAX;
    }
    best[start] = 0;
    for (;;) {
        int nearest = -1;
        for (int node = 0; node < node_count; node++) {
            bool is_open = !is_settled[node] && best[node] < INT64_MAX;
            if (is_open && (nearest < 0 || best[node] < best[nearest])) {
                nearest = node;
            }
        }
        if (nearest < 0) {
            return -1;
        }
        if (nearest == end) {
            return best[end];
        }
        is_settled[nearest] = true;
        for (int index = first_edge[nearest]; index < first_edge[nearest + 1]; index++) {
            int64_t through = best[nearest] + edges[index].cost;
            if (through < best[edges[index].to]) {
                best[edges[index].to] = through;
            }
        }
    }
}

/* ---- The tools. ---- */

static void put_missing(void)
{
    bool is_first = true;
    put("{");
    for (int index = 0; index < order.count; index++) {
        Amount wanted = order.first[index];
        int64_t missing = wanted.quantity - quantity_of(bag, wanted.item);
        if (missing > 0) {
            put_amount(wanted.item, missing, is_first);
            is_first = false;
        }
    }
    put("}");
}

static bool order_is_filled(void)
{
    for (int index = 0; index < order.count; index++) {
        if (quantity_of(bag, order.first[index].item) < order.first[index].quantity) {
            return false;
        }
    }
    return true;
}

static void put_field(const char *before, int64_t value)
{
    put(before);
    put_whole(value);
}

static void put_no_node(void)
{
    put_field("Error: nodes are whole numbers from 0 to ", node_count - 1);
}

static void observe(const char *const values[])
{
    (void)values;
    put_field("{\"position\": ", position);
    put_field(", \"target\": ", target);
    put_field(", \"cost\": ", walk_cost);
    put_field(", \"steps\": ", step_count);
    put(", \"bag\": ");
    put_amounts(bag);
    put(", \"missing\": ");
    put_missing();
    put(", \"items\": ");
    put_amounts(shelves[position]);
    put("}");
}

static void get_neighbors(const char *const values[])
{
    int node;
    if (!is_node(values[0], &node)) {
        put_no_node();
        return;
    }
    put("[");
    for (int index = first_edge[node]; index < first_edge[node + 1]; index++) {
        put_field(index == first_edge[node] ? "{\"node\": " : ", {\"node\": ", edges[index].to);
        put_field(", \"cost\": ", edges[index].cost);
        put("}");
    }
    put("]");
}

static void move_to(const char *const values[])
{
    int node;
    if (!is_node(values[0], &node)) {
        put_no_node();
        return;
    }
    for (int index = first_edge[position]; index < first_edge[position + 1]; index++) {
        if (edges[index].to == node) {
            position = node;
            walk_cost += edges[index].cost;
            put_field("{\"position\": ", position);
            put_field(", \"cost\": ", walk_cost);
            put(", \"items\": ");
            put_amounts(shelves[position]);
            put("}");
            return;
        }
    }
    put_field("Error: no edge leads from ", position);
    put_field(" to ", node);
}

static void take_from_shelf(Amounts *shelf, Amount *amount, int64_t quantity)
{
    amount->quantity -= quantity;
    if (amount->quantity == 0) {
        shelf->count--;
        size_t behind = (size_t)(shelf->first + shelf->count - amount);
        memmove(amount, amount + 1, behind * sizeof *amount);
    }
}

static void pick_up(const char *const values[])
{
    int64_t quantity;
    if (*values[0] != '"') {
        put("Error: an item is a string");
        return;
    }
    if (!json_whole(values[1], &quantity) || quantity < 1) {
        put("Error: a quantity is a whole number from 1");
        return;
    }
    Name name;
    read_name(values[0], &name);
    int item = find_item(&name);
    Amounts *shelf = &shelves[position];
    Amount *amount = find_amount(*shelf, item);
    int64_t here = amount == NULL ? 0 : amount->quantity;
    if (amount == NULL || here < quantity) {
        put_field("Error: there are ", here);
        put(" of that item here");
        return;
    }
    take_from_shelf(shelf, amount, quantity);
    Amount *carried = find_amount(bag, item);
    if (carried == NULL) {
        carried = &bag.first[bag.count++]; /* one place for each of the MAX_ITEMS items */
        *carried = (Amount){item, 0};
    }
    carried->quantity += quantity;
    put("{\"item\": ");
    put_name(item);
    put_field(", \"picked\": ", quantity);
    put_field(", \"left\": ", here - quantity);
    put(", \"bag\": ");
    put_amounts(bag);
    put("}");
}

static void estimate_route(const char *const values[])
{
    int end;
    if (!is_node(values[0], &end)) {
        put_no_node();
        return;
    }
    put_field("{\"from\": ", position);
    put_field(", \"to\": ", end);
    put_field(", \"cost\": ", distance(position, end));
    put("}");
}

static void done(const char *const values[])
{
    int64_t answer, expected = warehouse_answer();
    bool is_filled = order_is_filled();
    is_finished = true;
    reward = is_filled && json_whole(values[0], &answer) && answer == expected;
    put(is_filled ? "The order is filled" : "The order is not filled");
    put_field(", reference answer: ", expected);
    put_field(", reward=", reward);
}

/* ---- The episode. ---- */

enum { MAX_PARAMETERS = 2 };

typedef struct {
    const char *name;
    const char *code;
    const char *parameters[MAX_PARAMETERS];
    void (*act)(const char *const values[MAX_PARAMETERS]);
} Tool;

static const Tool TOOLS[] = {
    {"Observe", "OBSERVE", {NULL}, observe},
    {"GetNeighbors", "GET_NEIGHBORS", {"node"}, get_neighbors},
    {"MoveTo", "MOVE_TO", {"node"}, move_to},
    {"PickUp", "PICK_UP", {"item", "quantity"}, pick_up},
    {"EstimateRoute", "ESTIMATE_ROUTE", {"target"}, estimate_route},
    {"Done", "DONE", {"answer"}, done},
};

static const Tool *find_tool(const char *name)
{
    for (size_t index = 0; *name == '"' && index < sizeof TOOLS / sizeof *TOOLS; index++) {
        if (json_string_is(name, TOOLS[index].name)) {
            return &TOOLS[index];
        }
    }
    return NULL;
}

static void use_tool(const Tool *tool, const char *parameters)
{
    const char *values[MAX_PARAMETERS] = {NULL};
    for (int index = 0; index < MAX_PARAMETERS && tool->parameters[index] != NULL; index++) {
        values[index] = json_member(parameters, tool->parameters[index]);
        if (values[index] == NULL) {
            put("Error: ");
            put(tool->parameters[index]);
            put(" is missing for ");
            put(tool->code);
            return;
        }
    }
    tool->act(values);
}

void warehouse_step(Text action)
{
    step_count++;
    if (!json_is_valid(action)) {
        put("Error: the action is not JSON");
        return;
    }
    const char *call = json_value(action);
    const char *name = is_object(call) ? json_member(call, "name") : NULL;
    const char *parameters = is_object(call) ? json_member(call, "parameters") : NULL;
    if (name == NULL || parameters == NULL) {
        put("Error: an action has a name and parameters");
        return;
    }
    const Tool *tool = find_tool(name);
    if (tool == NULL) {
        put("Error: there is no such tool");
    } else if (!is_object(parameters)) {
        put("Error: parameters must be an object");
    } else {
        use_tool(tool, parameters);
    }
}

bool warehouse_is_loaded(void)
{
    return is_loaded;
}

bool warehouse_is_finished(void)
{
    return is_finished;
}

int warehouse_reward(void)
{
    return reward;
}

int64_t warehouse_answer(void)
{
    return distance(0, target);
}

"""A robot starts at node 0 of a warehouse: a graph whose edges cost something to walk. It must fill an order
by walking to shelves and picking up items, in any way it likes. How much does the cheapest route from node 0
to the target cost, or -1 if there is none? The answer counts only once the whole order is in the bag.

`warehouse.c` beside this file is the same environment, byte for byte; limits and messages are part of both.
"""

import ast
import heapq
import json

import gymnasium

MAX_NODES = 256
MAX_EDGES = 4096
MAX_STOCK = 2048
MAX_ITEMS = 256
MAX_NAME = 40
MAX_AMOUNT = 1_000_000

_AMOUNTS = f"names of 1 to {MAX_NAME} characters, quantities from 1 to {MAX_AMOUNT}"
_BAD = {
    "options": "the config must be an object",
    "n": f"n must be a whole number from 1 to {MAX_NODES}",
    "edges": f"edges must be at most {MAX_EDGES} lists of two nodes and a cost from 1 to {MAX_AMOUNT}",
    "stock": "stock must map nodes to items to quantities: "
    f"at most {MAX_STOCK} entries of {MAX_ITEMS} items, {_AMOUNTS}",
    "order": f"order must map items to quantities: with the stock at most {MAX_ITEMS} items, {_AMOUNTS}",
    "target": "target must be a node",
}
_DEFAULT = {
    "n": 5,
    "edges": [[0, 1, 4], [0, 2, 1], [1, 2, 2], [1, 3, 5], [3, 4, 3]],
    "stock": {"1": {"bolt": 3}, "3": {"bolt": 1, "nut": 2}},
    "order": {"bolt": 2, "nut": 1},
    "target": 4,
}


def _is_whole(value, low, high):
    return type(value) is int and low <= value <= high


def _is_amounts(value):
    return type(value) is dict and all(
        1 <= len(name) <= MAX_NAME and _is_whole(quantity, 1, MAX_AMOUNT) for name, quantity in value.items()
    )


class WarehouseEnv(gymnasium.Env):
    def __init__(self, env_str=None):
        super().__init__()
        self.OBSERVE = 0
        self.GET_NEIGHBORS = 1
        self.MOVE_TO = 2
        self.PICK_UP = 3
        self.ESTIMATE_ROUTE = 4
        self.DONE = 5
        self.func_mapping = {
            "Observe": self.OBSERVE,
            "GetNeighbors": self.GET_NEIGHBORS,
            "MoveTo": self.MOVE_TO,
            "PickUp": self.PICK_UP,
            "EstimateRoute": self.ESTIMATE_ROUTE,
            "Done": self.DONE,
        }
        self.reset({} if env_str is None else ast.literal_eval(env_str.split("@")[1]))

    @property
    def finished(self):
        return self._done

    @property
    def reward(self):
        return float(self._reward)

    @staticmethod
    def from_env_str(env_str):
        prefix = "WarehouseEnv@"
        return WarehouseEnv(env_str) if env_str.startswith(prefix) else None

    def reset(self, options=None):
        options = {} if options is None else options
        if type(options) is not dict:
            raise ValueError(_BAD["options"])
        n, edges, stock, order, target = (options.get(key, _DEFAULT[key]) for key in _DEFAULT)
        if not _is_whole(n, 1, MAX_NODES):
            raise ValueError(_BAD["n"])
        self.n = n
        self.neighbors = self._read_edges(edges)
        self.shelves = self._read_stock(stock)
        names = {name for items in self.shelves.values() for name in items}
        if not _is_amounts(order) or len(names.union(order)) > MAX_ITEMS:
            raise ValueError(_BAD["order"])
        if not self._is_node(target):
            raise ValueError(_BAD["target"])
        self.order = dict(order)
        self.target = target
        self.bag = {}
        self.position = 0
        self.cost = 0
        self._reward = 0
        self._done = False
        self.step_count = 0
        return "Environment has been reset."

    def _read_edges(self, edges):
        if type(edges) is not list or len(edges) > MAX_EDGES:
            raise ValueError(_BAD["edges"])
        neighbors = [[] for _ in range(self.n)]
        for edge in edges:
            if type(edge) is not list or len(edge) != 3:
                raise ValueError(_BAD["edges"])
            u, v, cost = edge
            if not (self._is_node(u) and self._is_node(v) and u != v and _is_whole(cost, 1, MAX_AMOUNT)):
                raise ValueError(_BAD["edges"])
            neighbors[u].append((v, cost))
            neighbors[v].append((u, cost))
        return [sorted(pairs) for pairs in neighbors]

    def _read_stock(self, stock):
        if type(stock) is not dict or not all(_is_amounts(items) for items in stock.values()):
            raise ValueError(_BAD["stock"])
        nodes = {str(node): node for node in range(self.n)}
        names = {name for items in stock.values() for name in items}
        entries = sum(map(len, stock.values()))
        if not nodes.keys() >= stock.keys() or entries > MAX_STOCK or len(names) > MAX_ITEMS:
            raise ValueError(_BAD["stock"])
        return {nodes[key]: dict(items) for key, items in stock.items()}

    def _is_node(self, value):
        return _is_whole(value, 0, self.n - 1)

    def _items(self):
        return self.shelves.get(self.position, {})

    def _missing(self):
        bag = self.bag
        return {
            name: wanted - bag.get(name, 0)
            for name, wanted in self.order.items()
            if wanted > bag.get(name, 0)
        }

    def _distance(self, start, end):
        distance = {start: 0}
        heap = [(0, start)]
        while heap:
            so_far, node = heapq.heappop(heap)
            if node == end:
                return so_far
            if so_far > distance[node]:
                continue
            for other, cost in self.neighbors[node]:
                if other not in distance or so_far + cost < distance[other]:
                    distance[other] = so_far + cost
                    heapq.heappush(heap, (so_far + cost, other))
        return -1

    def step(self, action):
        self.step_count += 1
        try:
            call = json.loads(action)
        except (ValueError, RecursionError):
            return True, "Error: the action is not JSON"
        try:
            assert type(call) is dict and "name" in call and "parameters" in call, (
                "an action has a name and parameters"
            )
            name, parameters = call["name"], call["parameters"]
            assert type(name) is str and name in self.func_mapping, "there is no such tool"
            assert type(parameters) is dict, "parameters must be an object"
            code = self.func_mapping[name]
            if code == self.OBSERVE:
                message = self.Observe()
            elif code == self.GET_NEIGHBORS:
                if "node" not in parameters:
                    raise ValueError("node is missing for GET_NEIGHBORS")
                message = self.GetNeighbors(parameters["node"])
            elif code == self.MOVE_TO:
                if "node" not in parameters:
                    raise ValueError("node is missing for MOVE_TO")
                message = self.MoveTo(parameters["node"])
            elif code == self.PICK_UP:
                if "item" not in parameters:
                    raise ValueError("item is missing for PICK_UP")
                if "quantity" not in parameters:
                    raise ValueError("quantity is missing for PICK_UP")
                message = self.PickUp(parameters["item"], parameters["quantity"])
            elif code == self.ESTIMATE_ROUTE:
                if "target" not in parameters:
                    raise ValueError("target is missing for ESTIMATE_ROUTE")
                message = self.EstimateRoute(parameters["target"])
            elif code == self.DONE:
                if "answer" not in parameters:
                    raise ValueError("answer is missing for DONE")
                message = self.Done(parameters["answer"])
            return True, message
        except Exception as error:
            return True, f"Error: {error}"

    def Observe(self):
        r"""
        Tell where the robot is, the target, the cost of its walk, the steps so far, what is in the bag, what
        the order still misses, and which items are here.

        Args:
            None

        Returns:
            str: all that as JSON.

        Example Output:
            "{\"position\": 0, \"target\": 4, \"cost\": 0, \"steps\": 1, \"bag\": {},
            \"missing\": {\"bolt\": 2, \"nut\": 1}, \"items\": {}}"
        """
        return json.dumps(
            {
                "position": self.position,
                "target": self.target,
                "cost": self.cost,
                "steps": self.step_count,
                "bag": self.bag,
                "missing": self._missing(),
                "items": self._items(),
            }
        )

    def GetNeighbors(self, node):
        r"""
        List the edges at a node, wherever the robot is.

        Args:
            node (int): the node.

        Returns:
            str: the nodes at the other ends and what walking there costs, as JSON.

        Example Output:
            "[{\"node\": 1, \"cost\": 4}, {\"node\": 2, \"cost\": 1}]"
        """
        if not self._is_node(node):
            return f"Error: nodes are whole numbers from 0 to {self.n - 1}"
        return json.dumps([{"node": other, "cost": cost} for other, cost in self.neighbors[node]])

    def MoveTo(self, node):
        r"""
        Walk along one edge.

        Args:
            node (int): the other end of an edge at the robot's position.

        Returns:
            str: the new position, the cost of the walk so far, and the items here, as JSON.

        Example Output:
            "{\"position\": 1, \"cost\": 4, \"items\": {\"bolt\": 3}}"
        """
        if not self._is_node(node):
            return f"Error: nodes are whole numbers from 0 to {self.n - 1}"
        for other, cost in self.neighbors[self.position]:
            if other == node:
                self.position = node
                self.cost += cost
                return json.dumps({"position": node, "cost": self.cost, "items": self._items()})
        return f"Error: no edge leads from {self.position} to {node}"

    def PickUp(self, item, quantity):
        r"""
        Put items that are here into the bag.

        Args:
            item (str): the item's name.
            quantity (int): how many of it.

        Returns:
            str: what was picked, how many are left here, and what is in the bag, as JSON.

        Example Output:
            "{\"item\": \"bolt\", \"picked\": 2, \"left\": 1, \"bag\": {\"bolt\": 2}}"
        """
        if type(item) is not str:
            return "Error: an item is a string"
        if type(quantity) is not int or quantity < 1:
            return "Error: a quantity is a whole number from 1"
        items = self._items()
        left = items.get(item, 0) - quantity
        if left < 0:
            return f"Error: there are {items.get(item, 0)} of that item here"
        if left:
            items[item] = left
        else:
            del items[item]
        self.bag[item] = self.bag.get(item, 0) + quantity
        return json.dumps({"item": item, "picked": quantity, "left": left, "bag": self.bag})

    def EstimateRoute(self, target):
        r"""
        Tell what the cheapest route from the robot's position costs.

        Args:
            target (int): the node where it ends.

        Returns:
            str: both ends and the cost, -1 if there is no route, as JSON.

        Example Output:
            "{\"from\": 0, \"to\": 4, \"cost\": 11}"
        """
        if not self._is_node(target):
            return f"Error: nodes are whole numbers from 0 to {self.n - 1}"
        return json.dumps(
            {"from": self.position, "to": target, "cost": self._distance(self.position, target)}
        )

    def Done(self, answer):
        r"""
        Hand in the answer; this ends the episode.

        Args:
            answer (int): what the cheapest route from node 0 to the target costs.

        Returns:
            str: whether the order was filled and the answer was right.

        Example Output:
            "The order is filled, reference answer: 11, reward=1"
        """
        expected = self.get_ref_answer()
        filled = not self._missing()
        self._reward = 1 if filled and type(answer) is int and answer == expected else 0
        self._done = True
        order = "filled" if filled else "not filled"
        return f"The order is {order}, reference answer: {expected}, reward={self._reward}"

    def get_ref_answer(self):
        return self._distance(0, self.target)

    def solve(self):
        def call(name, **parameters):
            return self.step(json.dumps({"name": name, "parameters": parameters}))[1]

        start = json.loads(call("Observe"))
        missing, items = start["missing"], start["items"]
        answer = json.loads(call("EstimateRoute", target=start["target"]))["cost"]
        # A walk in depth: the path back to the start, and per node of it the neighbors not yet tried.
        path, untried, seen = [start["position"]], {}, {start["position"]}
        while path:
            for item, quantity in items.items():
                picked = min(missing.get(item, 0), quantity)
                if picked > 0:
                    call("PickUp", item=item, quantity=picked)
                    missing[item] -= picked
            if not any(missing.values()):
                break
            node = path[-1]
            if node not in untried:
                untried[node] = [edge["node"] for edge in json.loads(call("GetNeighbors", node=node))]
            while untried[node] and untried[node][0] in seen:
                untried[node].pop(0)
            if untried[node]:
                path.append(untried[node].pop(0))
                seen.add(path[-1])
            else:
                path.pop()
            if path:
                items = json.loads(call("MoveTo", node=path[-1]))["items"]
        return call("Done", answer=answer)


if __name__ == "__main__":
    env = WarehouseEnv()
    print(env.solve(), env.step_count)
    env = WarehouseEnv.from_env_str(
        "WarehouseEnv@"
        + repr(
            {
                "n": 4,
                "edges": [[0, 1, 7], [0, 2, 1], [2, 3, 1], [3, 1, 1]],
                "stock": {"0": {"a@b": 2}, "3": {"c": 5}},
                "order": {"a@b": 1, "c": 5},
                "target": 1,
            }
        ).replace("@", "\\x40")
    )
    print(env.solve(), env.step_count)

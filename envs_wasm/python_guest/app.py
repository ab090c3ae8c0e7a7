"""The guest's entry point for componentize-py: shuts the doors, warms up, and leaves an image to be taken."""

import preload  # noqa: F401, I001  (first: it replaces the clock)

import gc

import exports
import holes
import outside
import wit_world


class WitWorld(wit_world.WitWorld):
    compile = staticmethod(exports.compile_source)
    run = staticmethod(exports.run)
    load = staticmethod(exports.load)
    step = staticmethod(exports.step)
    step_many = staticmethod(exports.step_many)
    solve = staticmethod(exports.solve)
    answer = staticmethod(exports.answer)
    reward = staticmethod(exports.reward)


_WARM_UP = """
import collections, copy, json, gymnasium, random, re
class WarmEnv(gymnasium.Env):
    finished, reward = False, 0.0
    def __init__(self, env_str=None):
        self.tools = {"Get": self.Get}
    def reset(self, options={}):
        self.options = options
    def Get(self, x):
        seeded, options = random.Random(7), list(self.options["a"])
        seeded.shuffle(options)
        drawn = seeded.choice(options), seeded.randint(1, 9), seeded.sample(options, 2), seeded.random()
        counted = collections.Counter(re.findall(r"[a-z]+", "a b a")).most_common(1)
        copied = copy.deepcopy({"x": x, "options": self.options})
        return json.dumps(copied) + json.dumps([drawn, counted], indent=2, sort_keys=True)
    def step(self, action):
        try:
            call = json.loads(action)
            return True, self.tools[call["name"]](**call["parameters"])
        except Exception as error:
            return True, f"Error: {error}"
    def get_ref_answer(self):
        return 1
    def solve(self):
        return self.step(json.dumps({"name": "Get", "parameters": {"x": 1}}))[1]
"""


def _warm_up():
    """Puts specialized bytecode and filled caches into the image."""
    code = exports.compile_source(_WARM_UP)[1:]
    replies = [exports.load(code, "WarmEnv", '{"a": [1, 2.5, null]}')]
    action = b'{"name": "Get", "parameters": {"x": [1, "b", 2.5]}}'
    for _ in range(50):
        replies += exports.step(action.decode()), exports.step("no call")
        replies.append(exports.step_many((len(action).to_bytes(4, "little") + action) * 2))
    replies += exports.solve(4), exports.answer(), exports.reward()
    assert all(reply[0] == exports.OK for reply in replies)
    exports.forget()


outside.close()
_warm_up()
gc.collect()
gc.freeze()  # what is in the image is never garbage, so no collection visits it
_fillers = holes.fill()

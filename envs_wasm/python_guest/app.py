"""The guest's side of `codegym.wit`: runs programs and one environment, and answers every call.

An exception that left an export would be a trap, so every export turns exceptions into a `Reply`.
"""

import gc
import json
import marshal
import sys
import types

import outside
import preload  # noqa: F401
import wit_world
from outside import Trouble
from wit_world import Reply, Status

_episode = None


class _TooManyCalls(BaseException):
    """Ends a `solve` that does not end; no `except Exception` in an environment catches it."""


def _describe(error):
    try:
        text = str(error)
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _reply(status, text):
    if Trouble.out_of_memory:
        status, text = Status.OUT_OF_MEMORY, "MemoryError"
    elif Trouble.forbidden:
        status, text = Status.FORBIDDEN, Trouble.forbidden
    # A lone surrogate has no UTF-8 form; an observation must never fail to travel.
    return Reply(status, str.encode(text, "utf-8", "backslashreplace"))


def _answering(export):
    """Makes an export answer with `RAISED` where its body raises."""

    def answer(self, *arguments):
        Trouble.out_of_memory = False
        Trouble.forbidden = ""
        try:
            return _reply(Status.OK, export(self, *arguments))
        except BaseException as error:
            return _reply(Status.RAISED, _describe(error))

    return answer


def _execute(code, name):
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses, pickle and typing look a class's module up there
    exec(marshal.loads(code), module.__dict__)
    return module


def _construct(cls, config_json):
    """An episode with `config_json` installed, preferably without the class parsing anything.

    Published constructors split their string at every "@" and read the rest as a Python literal, so the
    string handed to those that insist on one has "@" escaped, as a literal first and as JSON second.
    """
    try:
        episode = cls()
    except Exception:
        episode = None
    if episode is not None:
        episode.reset(json.loads(config_json))
        return episode
    try:
        return cls(f"{cls.__name__}@" + repr(json.loads(config_json)).replace("@", "\\x40"))
    except Exception:
        return cls(f"{cls.__name__}@" + config_json.replace("@", "\\u0040"))


def _observation(result):
    value = result[1] if type(result) is tuple and len(result) == 2 else result
    return value if type(value) is str else str(value)


def _record_steps(episode, max_calls):
    """Shadows `episode.step` by one that records calls from outside any tool."""
    step, actions, observations, depth = episode.step, [], [], 0

    def recorded(action):
        nonlocal depth
        if depth > 0:
            return step(action)
        if len(actions) >= max_calls:
            raise _TooManyCalls(f"solve made more than {max_calls} calls")
        actions.append(action)
        depth += 1
        observation = ""
        try:
            result = step(action)
            observation = _observation(result)
        except Exception as error:
            observation = f"Error: {_describe(error)}"
            raise
        finally:
            depth -= 1
            observations.append(observation)
        return result

    episode.step = recorded
    return actions, observations


class WitWorld(wit_world.WitWorld):
    def compile(self, source):
        Trouble.out_of_memory = False
        Trouble.forbidden = ""
        try:
            return Reply(Status.OK, marshal.dumps(compile(source, "<program>", "exec")))
        except BaseException as error:
            return _reply(Status.RAISED, _describe(error))

    @_answering
    def run(self, code, function, argument):
        result = getattr(_execute(code, "program"), function)(argument)
        if type(result) is not str:
            raise TypeError(f"{function} must return str, not {type(result).__name__}")
        return result

    @_answering
    def load(self, code, class_name, config):
        global _episode
        _episode = _construct(getattr(_execute(code, "environment"), class_name), config)
        return ""

    def step(self, action):
        Trouble.out_of_memory = False
        Trouble.forbidden = ""
        try:
            text = _observation(_episode.step(action))
            return _reply(Status.FINISHED if _episode.finished else Status.OK, text)
        except BaseException as error:
            return _reply(Status.RAISED, _describe(error))

    @_answering
    def solve(self, max_calls):
        actions, observations = _record_steps(_episode, max_calls)
        _episode.solve()
        return json.dumps({"actions": actions, "observations": observations})

    @_answering
    def answer(self):
        return json.dumps(
            _episode.get_ref_answer(), ensure_ascii=False, sort_keys=True, separators=(",", ":")
        )

    @_answering
    def reward(self):
        return repr(float(_episode.reward))


_WARM_UP = """
import json, gymnasium
class WarmEnv(gymnasium.Env):
    finished, reward = False, 0.0
    def __init__(self, env_str=None):
        self.tools = {"Get": self.Get}
    def reset(self, options={}):
        self.options = options
    def Get(self, x):
        return json.dumps({"x": x, "options": self.options})
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
    global _episode
    world = WitWorld()
    code = world.compile(_WARM_UP).payload
    assert world.load(code, "WarmEnv", '{"a": [1, 2.5, null]}').status is Status.OK
    for _ in range(50):
        assert world.step('{"name": "Get", "parameters": {"x": [1, "b", 2.5]}}').status is Status.OK
        world.step("no call")
    for reply in (world.solve(4), world.answer(), world.reward()):
        assert reply.status is Status.OK
    _episode = None
    del sys.modules["environment"]


outside.close()
_warm_up()
gc.collect()
gc.freeze()  # what is in the image is never garbage, so no collection visits it

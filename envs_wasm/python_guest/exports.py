"""What a guest does: runs programs and one environment, and answers every call with a reply (`codegym.wit`).

An exception that left an export would be a trap, so every export turns exceptions into replies. Nothing here
knows that it runs in WebAssembly; the host's in-process reference runs this very file.
"""

import json
import marshal
import sys
import types

OK, FINISHED, RAISED, OUT_OF_MEMORY, FORBIDDEN = range(5)
_OK, _FINISHED, _RAISED = b"\0", b"\1", b"\2"
_FRAME_BYTES = 4

_episode = None
_trouble, _trouble_text = OK, ""


class _TooManyCalls(BaseException):
    """Ends a `solve` that does not end; no `except Exception` in an environment catches it."""


def note_trouble(status, text):
    """Remembers what a program did during the present call, even where it swallows the exception."""
    global _trouble, _trouble_text
    if _trouble == OK or status < _trouble:
        _trouble, _trouble_text = status, text


def _encoded(text):
    # A lone surrogate has no UTF-8 form; an observation must never fail to travel.
    return str.encode(text, "utf-8", "backslashreplace")


def _raised(error):
    # `str.__str__` makes a plain string of one whose class says what formatting it or asking its length does.
    try:
        name = str.__str__(type.__dict__["__name__"].__get__(type(error)))
    except BaseException:
        name = "Exception"
    try:
        text = str.__str__(str(error))
    except BaseException:
        text = ""
    return _RAISED + _encoded(f"{name}: {text}" if text else name)


def _troubled():
    return bytes((_trouble,)) + _encoded(_trouble_text)


def _answering(export):
    """Makes an export answer with `RAISED` where its body raises."""

    def answer(*arguments):
        global _trouble
        _trouble = OK
        try:
            payload = export(*arguments)
            reply = _OK + (payload if type(payload) is bytes else _encoded(payload))
        except BaseException as error:
            reply = _raised(error)
        return _troubled() if _trouble else reply

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
            observation = _encoded(_observation(result)).decode()  # what `step` sends
        except Exception as error:
            observation = "Error: " + _raised(error)[1:].decode()
            raise
        finally:
            depth -= 1
            observations.append(observation)
        return result

    episode.step = recorded
    return actions, observations


@_answering
def compile_source(source):
    return marshal.dumps(compile(source, "<program>", "exec"))


@_answering
def run(code, function, argument):
    result = getattr(_execute(code, "program"), function)(argument)
    if type(result) is not str:
        raise TypeError(f"{function} must return str, not {type(result).__name__}")
    return result


@_answering
def load(code, class_name, config):
    global _episode
    _episode = _construct(getattr(_execute(code, "environment"), class_name), config)
    return b""


def step(action):
    global _trouble
    _trouble = OK
    try:
        text = _observation(_episode.step(action))
        reply = (_FINISHED if _episode.finished else _OK) + _encoded(text)
    except BaseException as error:
        reply = _raised(error)
    return _troubled() if _trouble else reply


def step_many(actions):
    replies = [_OK]
    position = 0
    while position < len(actions):
        start = position + _FRAME_BYTES
        position = start + int.from_bytes(actions[position:start], "little")
        reply = step(actions[start:position].decode())
        replies += (len(reply).to_bytes(_FRAME_BYTES, "little"), reply)
        if reply[0] not in (OK, RAISED):
            break
    return b"".join(replies)


@_answering
def solve(max_calls):
    actions, observations = _record_steps(_episode, max_calls)
    _episode.solve()
    return json.dumps({"actions": actions, "observations": observations})


@_answering
def answer():
    return json.dumps(_episode.get_ref_answer(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@_answering
def reward():
    return repr(float(_episode.reward))


def forget():
    """Drops the episode and its code."""
    global _episode
    _episode = None
    sys.modules.pop("environment", None)

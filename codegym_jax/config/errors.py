"""What a user got wrong, how settings are checked for it, and what commands exit with."""

import enum
import math


class ExitCode(enum.IntEnum):
    """What a command exits with; its launchers go by it."""

    DONE = 0
    WRONG = 1
    """Something checked was found wrong, or the run cannot go on."""
    USER = 2
    """A user's mistake, told in one line."""
    RESUMABLE = 42
    """The machine is taken away, or an `Outage`: the same command goes on."""
    INTERRUPTED = 130
    """By a person; the same command goes on."""


class CannotGoOn(RuntimeError):
    """What ends a run for good, though nobody made a mistake that could be named before it began.

    The message is for people; the command line prints it and exits with 1.
    """


class Outage(RuntimeError):
    """What fails now and may be well later: a bucket that does not answer, a process on another machine.

    The message is one line for people; the command line prints it and exits with 42.
    """


class UserError(ValueError):
    """What a user got wrong. The message is one clear line; the command line prints it and exits with 2."""


class ConfigError(UserError):
    """A setting the user got wrong: the message names it, its value, and what would be right."""


def exit_code_of(error: BaseException) -> ExitCode:
    """What a command exits with that an error ended."""
    codes = {
        UserError: ExitCode.USER,
        OSError: ExitCode.USER,
        Outage: ExitCode.RESUMABLE,
        KeyboardInterrupt: ExitCode.INTERRUPTED,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), ExitCode.WRONG)


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raises `ConfigError` unless the condition on a setting holds."""
    if not condition:
        raise ConfigError(f"{name} must be {expected}, got {value!r}")


def at_least(section: str, config: object, **bounds: int) -> None:
    """Requires settings of a section to be finite and no less than their bounds."""
    for name, bound in bounds.items():
        value = getattr(config, name)
        require(bound <= value < math.inf, f"{section}.{name}", value, f"at least {bound}")

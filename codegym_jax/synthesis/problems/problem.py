"""A coding problem, as every loader gives it. All code in it is text."""

import hashlib
import re
from dataclasses import dataclass

from codegym_jax.config import UserError


class ProblemError(UserError):
    """A source of problems is missing or unreadable; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A coding problem with its reference solution. All code is text, run in the guest only."""

    code_id: str
    """`HumanEval_52`, `CodeIO_870`; letters, digits and single underscores."""
    origin: str
    """The corpus (`humaneval`, `codeio`, `algorithms`), or the name of the user's file or folder."""
    license: str
    statement: str
    """What is asked, in prose."""
    source: str
    """The module of the reference solution."""
    entry: str
    """The function in it that solves the problem."""
    test: str = ""
    """A module with `check(candidate)`, whose calls are example inputs."""
    generator: str = ""
    """A module with `generate_inputs(random)`."""
    inputs: tuple[str, ...] = ()
    """Inputs made from the entry's annotations, a JSON object each; for want of better ones."""


def code_id_of(*names: str) -> str:
    """One identifier of a problem's names; names that had to be altered get a hash, so that none collide."""
    text = "_".join(names)
    plain = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return plain if plain == text else "_".join(filter(None, (plain, short_hash(text))))


def short_hash(text: str) -> str:
    """Eight hexadecimal digits that tell one text from another."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]

"""The one way in: problems of several sources, chosen in an order that only the seed decides."""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codegym_jax.config import CORPORA
from codegym_jax.records import Rejection
from codegym_jax.synthesis.problems.corpora import corpus
from codegym_jax.synthesis.problems.files import RowFile, is_row_file
from codegym_jax.synthesis.problems.modules import ModuleFolder
from codegym_jax.synthesis.problems.problem import Problem, ProblemError, code_id_of
from codegym_jax.synthesis.problems.source import Source
from codegym_jax.synthesis.problems.typed import typed_inputs

TYPED_INPUTS = 24  # of a problem that has no generator


@dataclass(frozen=True, slots=True)
class Loaded:
    """The problems chosen, and what was looked at for them and refused.

    Problems and rejections together are all that entered; what lies beyond `per_source` did not.
    """

    problems: tuple[Problem, ...]
    rejections: tuple[Rejection, ...]


def load_problems(
    sources: Sequence[str],
    per_source: int,
    seed: int,
    licenses: Sequence[str] = (),
    own_license: str = "unknown",
) -> list[Problem]:
    """The problems that `load` gives."""
    return list(load(sources, per_source, seed, licenses, own_license).problems)


def load(
    sources: Sequence[str],
    per_source: int,
    seed: int,
    licenses: Sequence[str] = (),
    own_license: str = "unknown",
) -> Loaded:
    """The first `per_source` problems of each source, in an order fixed by the seed.

    A problem without a generator also gets `inputs`, made from its annotations.

    Args:
      sources: names of corpora, and paths of files of rows or of folders of modules.
      per_source: how many problems of each, at most.
      seed: orders a source's problems; so fewer of them are a beginning of more.
      licenses: the only licenses that are let through; empty for all.
      own_license: of what a path holds and names no license of its own.

    Raises:
      ProblemError: when a source is missing or malformed, or the licenses leave no problem.
    """
    problems: dict[str, Problem] = {}
    rejections: list[Rejection] = []
    for name in sources:
        source = open_source(name, own_license)
        for built in _chosen(source, per_source, seed, licenses):
            if isinstance(built, Rejection):
                rejections.append(built)
                continue
            if other := problems.get(built.code_id):
                rejections.append(
                    Rejection(reason="duplicate_id", detail=f"also in {other.origin}", subject=built.code_id)
                )
                continue
            problems[built.code_id] = _with_inputs(built, seed)
    if licenses and not problems:
        found = sorted({rejection.detail for rejection in rejections if rejection.reason == _LICENSE})
        raise ProblemError(
            f"no problem is under {', '.join(licenses)}; licenses found: {', '.join(found) or 'none'}"
        )
    return Loaded(tuple(problems.values()), tuple(rejections))


_LICENSE = "license_not_chosen"


def open_source(name: str, own_license: str = "unknown") -> Source:
    """The source of a name or path.

    Raises:
      ProblemError: when it is missing, or malformed as a whole.
    """
    if name in CORPORA:
        return corpus(name)
    path = Path(name)
    if path.is_dir():
        folder = path.resolve().name
        return ModuleFolder(path, title=code_id_of(folder), origin=folder, license=own_license)
    if is_row_file(name) and path.is_file():
        return RowFile(path, own_license)
    raise ProblemError(
        f"source {name!r} is neither {', '.join(CORPORA)} nor an existing file (.jsonl,"
        " .jsonl.gz, .parquet) or folder of Python modules"
    )


def _chosen(source: Source, per_source: int, seed: int, licenses: Sequence[str]) -> list[Problem | Rejection]:
    """Builds in order until there are enough problems, a block of ids at a time: each costs one reading."""
    waiting = sorted(
        source.code_ids, key=lambda code_id: hashlib.sha256(f"{seed}:{code_id}".encode()).digest()
    )
    chosen, count, start = [], 0, 0
    while count < per_source and start < len(waiting):
        wanted = per_source - count
        block = waiting[start : start + wanted + wanted // 2 + 16]
        for built in source.build(block):
            if isinstance(built, Problem) and licenses and built.license not in licenses:
                built = Rejection(reason=_LICENSE, detail=built.license, subject=built.code_id)
            chosen.append(built)
            count += isinstance(built, Problem)
            if count == per_source:
                break
        start += len(block)
    return chosen


def _with_inputs(problem: Problem, seed: int) -> Problem:
    if problem.generator or problem.inputs:
        return problem
    number = zlib.crc32(f"{seed}:{problem.code_id}".encode())
    return replace(problem, inputs=typed_inputs(problem, number, TYPED_INPUTS))

"""Questions to the index: which episodes pass a filter, in which order, a page of them, their neighbors."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from codegym_jax.config import UserError
from codegym_jax.report.live.searched import folded, storable, trigram_query

PAGE = 50
"""Episodes on a page."""
_ORDERS = ("place", "reward", "turns", "errors", "tokens", "logp")
_SHOWN = """file || ':' || line AS id, stage, step, split, mode, task, env, attempt, version, reward, stop,
  turns, errors, kinds, tokens, logp"""
_FACETS = ("stage", "split", "mode", "stop", "env")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which episodes are asked for; a field that is "" or None asks for nothing."""

    stage: str = ""
    split: str = ""
    mode: str = ""
    stop: str = ""
    env: str = ""
    task: str = ""
    error: str = ""
    """`any`, `none`, or a kind of error that at least one turn ended in."""
    from_step: int | None = None
    to_step: int | None = None
    from_reward: float | None = None
    to_reward: float | None = None
    text: str = ""
    """A piece of what the policy wrote or read, in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """By what episodes are sorted; equal ones by their place in the run, so that the order is total."""

    by: str = "place"
    """One of `place`, `reward`, `turns`, `errors`, `tokens`, `logp`."""
    descending: bool = True

    @property
    def sql(self) -> str:
        way = "DESC" if self.descending else "ASC"
        return f"ORDER BY {self.by} {way}, place {way}"


def read_filter(query: Mapping[str, str]) -> Filter:
    """The filter in the parameters of an address.

    Raises:
      UserError: a number is none; names the parameter.
    """
    found: dict[str, Any] = {}
    for field in fields(Filter):
        text = query.get(field.name, "")
        if text:
            found[field.name] = text if field.default == "" else _number(field.name, text)
    return Filter(**found)


def read_order(query: Mapping[str, str]) -> Order:
    """The order in the parameter `sort` of an address: a name, with a `-` before it for the largest first.

    Raises:
      UserError: there is no such order.
    """
    text = query.get("sort") or "-place"
    by = text.removeprefix("-")
    if by not in _ORDERS:
        raise UserError(f"sort must be one of {', '.join(_ORDERS)}, got {by!r}")
    return Order(by=by, descending=text.startswith("-"))


def _number(name: str, text: str) -> float | int:
    try:
        return float(text) if name.endswith("reward") else int(text)
    except ValueError as error:
        raise UserError(f"{name} must be a number, got {text!r}") from error


def page(connection: sqlite3.Connection, asked: Filter, order: Order, number: int) -> list[dict[str, Any]]:
    """The episodes on a page, counted from 1."""
    where, values = _where(asked)
    sql = f"SELECT {_SHOWN} FROM episodes {where} {order.sql} LIMIT ? OFFSET ?"
    return [dict(row) for row in connection.execute(sql, [*values, PAGE, PAGE * (max(number, 1) - 1)])]


def count(connection: sqlite3.Connection, asked: Filter) -> dict[str, Any]:
    """How many episodes pass, their mean reward, and the mean of their turns."""
    where, values = _where(asked)
    sql = f"SELECT COUNT(*) AS episodes, AVG(reward) AS reward, AVG(turns) AS turns FROM episodes {where}"
    return dict(connection.execute(sql, values).fetchone())


def facets(connection: sqlite3.Connection, asked: Filter) -> dict[str, list[tuple[str, int]]]:
    """For each field of choice the values that would leave something, with how many episodes each would."""
    found = {}
    for name in _FACETS:
        where, values = _where(replace(asked, **{name: ""}))
        sql = f"SELECT {name}, COUNT(*) FROM episodes {where} GROUP BY {name} ORDER BY {name}"
        found[name] = [(value, number) for value, number in connection.execute(sql, values)]
    return found | {"error": _error_facet(connection, replace(asked, error=""))}


def _error_facet(connection: sqlite3.Connection, asked: Filter) -> list[tuple[str, int]]:
    where, values = _where(asked)
    counts = {"any": 0, "none": 0}
    for kinds, number in connection.execute(
        f"SELECT kinds, COUNT(*) FROM episodes {where} GROUP BY kinds", values
    ):
        for kind in ["any", *kinds.strip(",").split(",")] if kinds else ["none"]:
            counts[kind] = counts.get(kind, 0) + number
    return list(counts.items())


def neighbors(
    connection: sqlite3.Connection, asked: Filter, order: Order, episode: str
) -> dict[str, str | None]:
    """The episodes before and behind one, in the order and among those that pass."""
    here = locate(connection, episode)
    if here is None:
        return {"previous": None, "next": None}
    where, values = _where(asked)
    found: dict[str, str | None] = {}
    for name, backwards in (("previous", True), ("next", False)):
        falling = order.descending != backwards
        condition = f"({order.by}, place) {'<' if falling else '>'} (?, ?)"
        sql = (
            f"SELECT file || ':' || line FROM episodes {where} {'AND' if where else 'WHERE'} {condition}"
            f" {replace(order, descending=falling).sql} LIMIT 1"
        )
        row = connection.execute(sql, [*values, here[order.by], here["place"]]).fetchone()
        found[name] = row[0] if row else None
    return found


def locate(connection: sqlite3.Connection, episode: str) -> sqlite3.Row | None:
    """All that the index has of one episode, by its id."""
    file, _, line = episode.rpartition(":")
    if not line.isdecimal():
        return None
    sql = "SELECT * FROM episodes WHERE file = ? AND line = ?"
    return connection.execute(sql, (storable(file), int(line))).fetchone()


def attempts(connection: sqlite3.Connection, episode: str) -> dict[str, list[dict[str, Any]]]:
    """The attempts at an episode's task: those of its step (`group`), and those elsewhere in the run."""
    here = locate(connection, episode)
    if here is None:
        return {"group": [], "elsewhere": []}
    sql = f"SELECT {_SHOWN}, file FROM episodes WHERE task = ? ORDER BY place"
    rows = [dict(row) for row in connection.execute(sql, (here["task"],))]
    split: dict[str, list[dict[str, Any]]] = {"group": [], "elsewhere": []}
    for row in rows:
        split["group" if row.pop("file") == here["file"] else "elsewhere"].append(row)
    return split


def _where(asked: Filter) -> tuple[str, list[Any]]:
    """The filter as SQL with its values."""
    terms: list[tuple[str, list[Any]]] = []
    for name in ("stage", "split", "mode", "stop", "env", "task"):
        if value := getattr(asked, name):
            terms.append((f"{name} = ?", [storable(value)]))
    for name, sign in (("from", ">="), ("to", "<=")):
        for column in ("step", "reward"):
            value = getattr(asked, f"{name}_{column}")
            if value is not None:
                terms.append((f"{column} {sign} ?", [value]))
    terms += _error_terms(asked.error) + _text_terms(asked.text)
    if not terms:
        return "", []
    sql = " AND ".join(term for term, _ in terms)
    return f"WHERE {sql}", [value for _, values in terms for value in values]


def _error_terms(error: str) -> list[tuple[str, list[Any]]]:
    if not error:
        return []
    if error in ("any", "none"):
        return [(f"errors {'>' if error == 'any' else '='} 0", [])]
    return [("instr(kinds, ?) > 0", [f",{storable(error)},"])]


def _text_terms(text: str) -> list[tuple[str, list[Any]]]:
    """Trigrams narrow the search, and the text itself decides."""
    if not text:
        return []
    needle = folded(text)
    found = "SELECT rowid FROM texts WHERE instr(body, ?) > 0"
    if query := trigram_query(needle):
        return [(f"id IN ({found} AND texts MATCH ?)", [needle, query])]
    return [(f"id IN ({found})", [needle])]

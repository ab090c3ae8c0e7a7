"""Static or paged: what one decode step's attention costs, and what the cache holds, in either layout.

    python -m benchmarks.cache_layouts [--rows 8] [--slots 2048] [--runs 9]

One layer of SmolLM2-135M's shape, float32, one new token a row; rows are as long as episodes are that end at
random between a tenth of the slots and all of them. `static` is the sampler's layout: every row owns `slots`
slots, and attention reads them all. `paged` keeps pages of 128 slots in one pool and a table of each row's
pages: the token is written through the table, and a row's pages are gathered before attention, which is what
XLA can do without a kernel of its own. `static_longest` reads the slots up to the longest row only, which
costs a program for each power of two. Every layout gives the same numbers, or the run stops.

Prints one JSON line for each layout: median milliseconds, and bytes of keys and values held and read.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from codegym_jax.models import kv_cache
from codegym_jax.models.attention import Cached, attend
from codegym_jax.models.presets import PRESETS

PAGE = 128
STEPS = 32
"""Decode steps of one call."""
_SHAPE = PRESETS["smollm2-135m"]
_NUMBER = 4


_Stepped = tuple[jax.Array, jax.Array, jax.Array]
"""Keys and values with the new token, and what attention made of them."""


class Layout(NamedTuple):
    """One way to keep keys and values."""

    step: Callable[[], jax.Array]
    """`STEPS` times: writes one token a row and attends to it."""
    held_slots: int
    """Of all rows together: what memory must hold."""
    read_slots: int


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--slots", type=int, default=2048, help="a multiple of 128")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    print(json.dumps({"benchmark": "cache_layouts"} | machine.describe(("jax",))))
    layouts = _layouts(options.rows, options.slots)
    seen = {name: np.asarray(layout.step()) for name, layout in layouts.items()}
    for name, values in seen.items():
        np.testing.assert_allclose(values, seen["static"], atol=1e-5, err_msg=name)
    times: dict[str, list[float]] = {name: [] for name in layouts}
    for _ in range(options.runs):
        for name, layout in layouts.items():
            start_s = time.perf_counter()
            layout.step().block_until_ready()
            times[name].append(1e3 * (time.perf_counter() - start_s) / STEPS)
    slot_bytes = 2 * _SHAPE.kv_heads * _SHAPE.head_width * _NUMBER
    for name, layout in layouts.items():
        row = {
            "layout": name,
            "step_ms": round(statistics.median(times[name]), 3),
            "ratio": round(statistics.median(times["static"]) / statistics.median(times[name]), 3),
            "held_mb": round(layout.held_slots * slot_bytes / 1e6, 2),
            "read_mb": round(layout.read_slots * slot_bytes / 1e6, 2),
            "runs": options.runs,
            "load": machine.load_average()[0],
        }
        print(json.dumps(row), flush=True)
    return 0


def _layouts(rows: int, slots: int) -> dict[str, Layout]:
    rng = np.random.default_rng(0)
    length_B = rng.integers(slots // 10, slots, rows)
    positions_BT = jnp.asarray(length_B[:, None] - 1, jnp.int32)
    heads, width = _SHAPE.kv_heads, _SHAPE.head_width
    cache = rng.normal(size=(2, rows, heads, slots, width)).astype(np.float32)
    query = jnp.asarray(rng.normal(size=(rows, 1, _SHAPE.query_heads, width)), jnp.float32)
    new = jnp.asarray(rng.normal(size=(2, rows, heads, 1, width)), jnp.float32)

    def attended(k_BKCH: jax.Array, v_BKCH: jax.Array) -> jax.Array:
        return attend(query, k_BKCH, v_BKCH, Cached(positions_BT))

    def static(k_BKCH: jax.Array, v_BKCH: jax.Array) -> _Stepped:
        k_BKCH, v_BKCH = (kv_cache.write(one, new[i], positions_BT) for i, one in enumerate((k_BKCH, v_BKCH)))
        return k_BKCH, v_BKCH, attended(k_BKCH, v_BKCH)

    longest = min(slots, 1 << int(length_B.max() - 1).bit_length())

    def static_longest(k_BKCH: jax.Array, v_BKCH: jax.Array) -> _Stepped:
        k_BKCH, v_BKCH = (kv_cache.write(one, new[i], positions_BT) for i, one in enumerate((k_BKCH, v_BKCH)))
        return k_BKCH, v_BKCH, attended(k_BKCH[:, :, :longest], v_BKCH[:, :, :longest])

    pools, table_BP = _paged(cache, length_B)
    page_B = table_BP[np.arange(rows), (length_B - 1) // PAGE]
    place_B = (length_B - 1) % PAGE

    def paged(k_PKSH: jax.Array, v_PKSH: jax.Array) -> _Stepped:
        pools = [pool.at[page_B, :, place_B].set(new[i, :, :, 0]) for i, pool in enumerate((k_PKSH, v_PKSH))]
        rows_BPKSH = (pool[table_BP] for pool in pools)
        gathered = (pages.swapaxes(1, 2).reshape(rows, heads, -1, width) for pages in rows_BPKSH)
        return pools[0], pools[1], attended(*gathered)

    used = int((-(-length_B // PAGE)).sum()) * PAGE
    return {
        "static": Layout(_bound(static, cache[0], cache[1]), rows * slots, rows * slots),
        "static_longest": Layout(_bound(static_longest, cache[0], cache[1]), rows * slots, rows * longest),
        "paged": Layout(_bound(paged, pools[0], pools[1]), used, rows * table_BP.shape[1] * PAGE),
    }


def _bound(step: Callable[..., _Stepped], keys: np.ndarray, values: np.ndarray) -> Callable[[], jax.Array]:
    """So many steps in one program, as in the sampler's loop: the cache is then written in place."""

    def program(keys: jax.Array, values: jax.Array) -> jax.Array:
        first = step(keys, values)
        return jax.lax.fori_loop(1, STEPS, lambda _, last: step(last[0], last[1]), first)[2]

    compiled, held = jax.jit(program), (jnp.asarray(keys), jnp.asarray(values))
    return lambda: compiled(*held)


def _paged(cache: np.ndarray, length_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same keys and values as a pool of pages, and each row's pages; page 0 is nobody's."""
    counts = -(-length_B // PAGE)
    pools = np.zeros((2, 1 + int(counts.sum()), cache.shape[2], PAGE, cache.shape[4]), np.float32)
    table_BP = np.zeros((len(length_B), int(counts.max())), np.int32)
    page = 1
    for row, count in enumerate(counts.tolist()):
        for index in range(count):
            part = cache[:, row, :, index * PAGE : (index + 1) * PAGE]
            pools[:, page, :, : part.shape[2]] = part
            table_BP[row, index] = page
            page += 1
    return pools, table_BP


if __name__ == "__main__":
    sys.exit(main())

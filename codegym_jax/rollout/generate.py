"""The sampler: a fixed number of slots whose caches stay on the device across tool calls.

Four programs are compiled, whatever the episodes do: `start` empties slots and copies into them the prompts
that other slots hold, `decode` continues the policy's messages, `extend` appends short tool results to all
slots at once, and `prefill` appends prompts and long results to a few slots. Every row has its own length;
appends are ragged; a finished slot is reset in place and takes the next episode. Knows nothing of tools or
text.
"""

import functools
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt32

from codegym_jax.models import kv_cache, sharding
from codegym_jax.models.flops import matrix_parameters
from codegym_jax.models.kv_cache import KVCache
from codegym_jax.models.transformer import Transformer, project, transpose
from codegym_jax.rollout import sampling
from codegym_jax.rollout.prefix import PrefixTree, Start
from codegym_jax.rollout.token_sampler import Sampled

_TRANSPOSED_BYTES = 2**26  # of matrices, from which on they are read from memory at every step


class SlotState(NamedTuple):
    """What a slot holds on the device. The last token is always pending: known, but not yet in the cache."""

    cache: KVCache
    tokens_BC: Int[Array, "B C"]
    length_B: Int[Array, " B"]
    """Tokens known; the cache holds positions below `length - 1`."""
    message_B: Int[Array, " B"]
    """Where the policy's message begins: the length after the last append."""
    key_B4: UInt32[Array, "B 4"]


class Sampler:
    """Samples for `slots` episodes at once.

    Args:
      model: the policy.
      mesh: slots are spread over its data axes.
      slots: B, rows of the cache.
      max_tokens: C, the longest episode.
      max_message_tokens: tokens that one `decode` call may add to a row.
      stop_sequences: each of them ends a message that ends with it; of one token or several.
      extend_width: tokens that `extend` appends to each slot in one call.
      prefill_rows: slots that one `prefill` call serves.
      prefill_width: tokens that `prefill` appends to each of them in one call.
      top_k: see `sampling.truncate`.
      top_p: see `sampling.truncate`.
      min_p: see `sampling.truncate`.
      idle_fraction: `decode` returns once this share of the rows that it started with has finished,
        so that tools run and slots refill while others are still writing; it changes no episode.
      share_prefixes: copy the beginning of a prompt from a slot that holds it; it changes no episode.
      transposed: keep a transposed copy of the matrices, made once for each version of the parameters; None:
        where steps are faster with it, which is for large models on one CPU (`LOG.md`).

    Attributes:
      slots, max_tokens, max_message_tokens, stop_sequences, extend_width: as given.
      vocabulary_size: the policy knows ids below it.
      prefilled_tokens: tokens of prompts and tool results that were computed.
      shared_tokens: tokens of prompts that were there already, or copied on the device.

    Raises:
      ValueError: when there is no stop sequence, or an empty one.
    """

    def __init__(
        self,
        model: Transformer,
        mesh: Mesh,
        *,
        slots: int,
        max_tokens: int,
        max_message_tokens: int,
        stop_sequences: Sequence[Sequence[int]],
        extend_width: int = 8,
        prefill_rows: int = 16,
        prefill_width: int = 64,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        idle_fraction: float = 0.75,
        share_prefixes: bool = True,
        transposed: bool | None = None,
    ) -> None:
        if not stop_sequences or not all(stop_sequences):
            raise ValueError(f"stop_sequences must hold sequences of tokens, got {stop_sequences!r}")
        self.slots, self.max_tokens = slots, max_tokens
        self.max_message_tokens, self.vocabulary_size = max_message_tokens, model.vocabulary_size
        self.stop_sequences = tuple(tuple(sequence) for sequence in stop_sequences)
        self.prefilled_tokens = self.shared_tokens = 0
        self._prefill_rows = min(prefill_rows, slots)
        self._prefill_width, self.extend_width = prefill_width, extend_width
        self._fresh: dict[int, np.ndarray] = {}
        self._share_prefixes, self._prefixes = share_prefixes, PrefixTree(prefill_width)
        self._params: tuple[weakref.ref[Any], ...] = ()
        self._transposed = _faster_transposed(model, mesh) if transposed is None else transposed
        self._own: Any = None
        rows, heads = sharding.place(mesh, "rows"), sharding.cache_sharding(mesh, model.config.kv_heads)
        places: Any = SlotState(heads, rows, rows, rows, rows)  # type: ignore[arg-type]

        def empty() -> SlotState:
            return SlotState(
                cache=kv_cache.empty(model.config, slots, max_tokens, model.compute.dtype),
                tokens_BC=jnp.zeros((slots, max_tokens), jnp.int32),
                length_B=jnp.zeros((slots,), jnp.int32),
                message_B=jnp.zeros((slots,), jnp.int32),
                key_B4=jnp.zeros((slots, 4), jnp.uint32),
            )

        self._state = jax.jit(empty, out_shardings=places)()  # made in place: no device could hold all of it
        own_model = model.clone(transposed=True) if self._transposed else model
        truncation = sampling.Truncation(top_k=top_k, top_p=top_p, min_p=min_p)
        fixed_settings = (max_message_tokens, self.stop_sequences, truncation, float(idle_fraction))
        decode = functools.partial(_decode, own_model, *fixed_settings)
        # Fixed placements: a state that came back elsewhere would compile every program again.
        fixed: dict[str, Any] = {"out_shardings": places}
        # A function object of its own: jit shares the cache of one function among all its callers.
        self._start: Any = jax.jit(functools.partial(_start), donate_argnums=0, **fixed)
        self._decode: Any = jax.jit(decode, donate_argnums=1, out_shardings=(places, rows))
        self._extend: Any = jax.jit(functools.partial(_append, own_model), donate_argnums=1, **fixed)
        self._prefill: Any = jax.jit(functools.partial(_prefill, model), donate_argnums=1, **fixed)

    @property
    def compiled_programs(self) -> int:
        """Programs compiled so far; constant once every kind of call has been made."""
        return sum(call._cache_size() for call in (self._start, self._decode, self._extend, self._prefill))

    def choose(self, prompt: Sequence[int], free: Sequence[int]) -> int:
        """Which of the free slots a prompt should go to; the one that needs least is the best.

        Args:
          prompt: of a new episode.
          free: slots that nobody needs, the one that was needed last at the end.
        """
        return self._prefixes.continued(prompt, free) if self._share_prefixes else free[0]

    def start(self, slot_keys: Mapping[int, UInt32[np.ndarray, " 4"]]) -> None:
        """Gives slots the random streams of new episodes, whose prompts the next `append` brings."""
        self._fresh.update(slot_keys)

    def append(self, params: Any, tokens_of: Mapping[int, Sequence[int]]) -> None:
        """Appends tokens to slots: prompts to started ones, tool results to others.

        A prompt's beginning that another slot holds, or that another prompt of this call begins with too, is
        computed once and copied; so is a whole prompt.

        Raises:
          ValueError: when a slot would hold more than `max_tokens`; callers check beforehand.
        """
        for _ in self.appending(params, tokens_of):
            pass

    def appending(self, params: Any, tokens_of: Mapping[int, Sequence[int]]) -> Generator[int, None, None]:
        """`append` in pieces, to the same bits: yields the tokens computed after each call of a program.

        Between two pieces `decode` may go on with other slots, but nothing else may be appended. Where it is
        given up, its slots hold no prompt, and can only be started again.
        """
        if any(len(ids) >= self.max_tokens for ids in tokens_of.values()):
            raise ValueError(f"a slot holds at most {self.max_tokens} tokens")
        self._noted(params)
        starts = self._plan({slot: ids for slot, ids in tokens_of.items() if slot in self._fresh})
        try:
            for wave in range(max((start.wave for start in starts.values()), default=0) + 1):
                begun = {slot: start for slot, start in starts.items() if start.wave == wave}
                self._begin(begun)
                yield from self._compute(
                    params,
                    {
                        slot: (ids, begun[slot].shared if slot in begun else 0)
                        for slot, ids in tokens_of.items()
                        if (starts[slot].wave if slot in starts else 0) == wave
                    },
                )
        except GeneratorExit:
            for slot in starts:
                self._prefixes.forget(slot)
            raise

    def decode(
        self,
        params: Any,
        budget_B: Int[np.ndarray, " B"],
        temperature: float | Float[np.ndarray, " B"],
        truncation: sampling.Truncation | None = None,
    ) -> Sampled:
        """Continues messages: row b gets up to `budget_B[b]` tokens, and stops after a stop sequence.

        Some rows may come back unfinished (see `idle_fraction`); call again with the rest of their budget.

        Args:
          params: of the policy.
          budget_B: 0 leaves a row as it is.
          temperature: of all rows, or of each.
          truncation: of each row, in arrays; None is that of the sampler. With it, and with temperatures by
            row, `decode` is a program of its own.

        Raises:
          ValueError: when a started slot, whose prompt is still to come, has a budget.
        """
        empty = [slot for slot in self._fresh if budget_B[slot] > 0]
        if empty:
            raise ValueError(f"slots {empty} were started and have no prompt yet")
        own = self._noted(params)
        budget_B = jnp.asarray(budget_B, jnp.int32)  # type: ignore[assignment]
        self._state, out = self._decode(
            own, self._state, budget_B, jnp.asarray(temperature, jnp.float32), truncation
        )
        return Sampled(*jax.device_get(out))

    def _noted(self, params: Any) -> Any:
        """The parameters as `decode` and `extend` take them; `prefill`, of many columns, needs no copy.

        Forgets all prompts when the parameters are others than those that computed them.
        """
        leaves = jax.tree.leaves(params)
        known = len(leaves) == len(self._params)
        if not known or not all(ref() is leaf for ref, leaf in zip(self._params, leaves, strict=True)):
            self._params = tuple(weakref.ref(leaf) for leaf in leaves)
            self._prefixes.clear()
            self._own = None  # before the next copy is made
            self._own = transpose(params) if self._transposed else None
        return self._own if self._transposed else params

    def _plan(self, prompts: dict[int, Sequence[int]]) -> dict[int, Start]:
        if not self._share_prefixes:
            return dict.fromkeys(prompts, Start(source=None, shared=0, wave=0))
        return self._prefixes.plan(prompts)

    def _begin(self, starts: Mapping[int, Start]) -> None:
        """Resets slots, and copies into them what they share with others."""
        waiting = list(starts.items())
        for at in range(0, len(waiting), self._prefill_rows):
            rows_R, source_R = np.full((2, self._prefill_rows), self.slots, np.int32)  # out of range: dropped
            shared_R = np.zeros(self._prefill_rows, np.int32)
            key_R4 = np.zeros((self._prefill_rows, 4), np.uint32)
            for index, (slot, start) in enumerate(waiting[at : at + self._prefill_rows]):
                rows_R[index], shared_R[index], key_R4[index] = slot, start.shared, self._fresh.pop(slot)
                source_R[index] = self.slots if start.source is None else start.source
            self._state = self._start(self._state, rows_R, source_R, shared_R, key_R4)
            self.shared_tokens += int(shared_R.sum())

    def _compute(self, params: Any, tokens_of: Mapping[int, tuple[Sequence[int], int]]) -> Iterator[int]:
        """Feeds each slot its tokens from a position on; which program does depends on all of them."""
        short: dict[int, Sequence[int]] = {}
        long: dict[int, Sequence[int]] = {}
        for slot, (ids, done) in tokens_of.items():
            if done < len(ids):
                (short if len(ids) <= self.extend_width else long)[slot] = ids[done:]
        if short:
            block_BT, count_B = self._ragged(range(self.slots), short, self.extend_width)
            self._state = self._extend(self._noted(params), self._state, block_BT, count_B)
            yield self._counted(count_B)
        while long:
            group = list(long)[: self._prefill_rows]
            rows_R = np.full(self._prefill_rows, self.slots, np.int32)  # out of range: dropped
            rows_R[: len(group)] = group
            block_RT, count_R = self._ragged(rows_R, long, self._prefill_width)
            self._state = self._prefill(params, self._state, rows_R, block_RT, count_R)
            rest = {slot: long[slot][self._prefill_width :] for slot in group}
            long = {
                **{s: ids for s, ids in rest.items() if ids},
                **{s: long[s] for s in list(long)[len(group) :]},
            }
            yield self._counted(count_R)

    def _counted(self, count: np.ndarray) -> int:
        tokens = int(count.sum())
        self.prefilled_tokens += tokens
        return tokens

    @staticmethod
    def _ragged(
        rows: Sequence[int] | range | np.ndarray, tokens_of: Mapping[int, Sequence[int]], width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        block, count = np.zeros((len(rows), width), np.int32), np.zeros(len(rows), np.int32)
        for index, row in enumerate(rows):
            ids = tokens_of.get(int(row), ())[:width]
            block[index, : len(ids)], count[index] = ids, len(ids)
        return block, count


def _faster_transposed(model: Transformer, mesh: Mesh) -> bool:
    """Whether a transposed copy is worth its memory: on one CPU, whose caches do not hold the matrices."""
    if mesh.size > 1 or mesh.devices.flat[0].platform != "cpu" or model.compute.scan_layers:
        return False
    float32_bytes = 4 * matrix_parameters(model.config, model.vocabulary_size)
    return model.compute.compute_dtype == "float32" and float32_bytes >= _TRANSPOSED_BYTES


def _start(
    state: SlotState,
    rows_R: Int[Array, " R"],
    source_R: Int[Array, " R"],
    shared_R: Int[Array, " R"],
    key_R4: UInt32[Array, "R 4"],
) -> SlotState:
    """Lets rows begin with the first `shared_R` tokens of other rows; without a source, of their own."""
    copied_R = jnp.where(source_R < state.length_B.shape[0], rows_R, source_R)
    tokens_RC = state.tokens_BC.at[source_R].get(mode="fill", fill_value=0)
    return SlotState(
        cache=kv_cache.put_rows(state.cache, copied_R, kv_cache.take_rows(state.cache, source_R)),
        tokens_BC=state.tokens_BC.at[copied_R].set(tokens_RC, mode="drop"),
        length_B=state.length_B.at[rows_R].set(shared_R, mode="drop"),
        message_B=state.message_B.at[rows_R].set(shared_R, mode="drop"),
        key_B4=state.key_B4.at[rows_R].set(key_R4, mode="drop"),
    )


def _append(model: Transformer, params: Any, state: SlotState, block_BT: Array, count_B: Array) -> SlotState:
    """Adds tokens to the rows and feeds the cache all but the last, which becomes the pending one."""
    B, C = state.tokens_BC.shape
    T = block_BT.shape[1]
    column_1T = jnp.arange(T)[None, :]
    row_B1 = jnp.arange(B)[:, None]
    target_BT = jnp.where(column_1T < count_B[:, None], state.length_B[:, None] + column_1T, C)
    tokens_BC = state.tokens_BC.at[row_B1, target_BT].set(block_BT, mode="drop")
    length_B = state.length_B + count_B
    cached_B = jnp.maximum(state.length_B - 1, 0)
    feed_BT = jnp.clip(cached_B[:, None] + column_1T, 0, C - 1)
    cache, _ = model.apply(
        {"params": params},
        state.cache,
        jnp.take_along_axis(tokens_BC, feed_BT, axis=1),
        _previous(tokens_BC, feed_BT),
        cached_B,
        jnp.where(count_B > 0, length_B - 1 - cached_B, 0),
        method="extend",
    )
    return state._replace(
        cache=cache,
        tokens_BC=tokens_BC,
        length_B=length_B,
        message_B=jnp.where(count_B > 0, length_B, state.message_B),
    )


def _prefill(
    model: Transformer, params: Any, state: SlotState, rows_R: Array, block_RT: Array, count_R: Array
) -> SlotState:
    part = SlotState(
        cache=kv_cache.take_rows(state.cache, rows_R),
        tokens_BC=state.tokens_BC.at[rows_R].get(mode="fill", fill_value=0),
        length_B=state.length_B.at[rows_R].get(mode="fill", fill_value=0),
        message_B=state.message_B.at[rows_R].get(mode="fill", fill_value=0),
        key_B4=state.key_B4.at[rows_R].get(mode="fill", fill_value=0),
    )
    part = _append(model, params, part, block_RT, count_R)
    return SlotState(
        cache=kv_cache.put_rows(state.cache, rows_R, part.cache),
        tokens_BC=state.tokens_BC.at[rows_R].set(part.tokens_BC, mode="drop"),
        length_B=state.length_B.at[rows_R].set(part.length_B, mode="drop"),
        message_B=state.message_B.at[rows_R].set(part.message_B, mode="drop"),
        key_B4=state.key_B4,
    )


class _Decoding(NamedTuple):
    step: Int[Array, ""]
    state: SlotState
    live_B: Bool[Array, " B"]
    tokens_BT: Int[Array, "B T"]
    sampler_logp_BT: Float[Array, "B T"]
    policy_logp_BT: Float[Array, "B T"]
    count_B: Int[Array, " B"]


def _decode(
    model: Transformer,
    max_message_tokens: int,
    stop_sequences: tuple[tuple[int, ...], ...],
    truncation: sampling.Truncation,
    idle_fraction: float,
    params: Any,
    state: SlotState,
    budget_B: Int[Array, " B"],
    temperature: Float[Array, ""] | Float[Array, " B"],
    truncation_of_rows: sampling.Truncation | None,
) -> tuple[SlotState, tuple[Array, Array, Array, Array]]:
    truncation = truncation if truncation_of_rows is None else truncation_of_rows
    B, C = state.tokens_BC.shape
    head: Any = model.apply({"params": params}, method="head")
    row_B = jnp.arange(B)
    live_B = budget_B > 0
    may_idle = jnp.floor(live_B.sum().astype(jnp.float32) * (1.0 - idle_fraction)).astype(jnp.int32)

    def more(loop: _Decoding) -> Array:
        return (loop.step < max_message_tokens) & (loop.live_B.sum() > may_idle)

    def one_token(loop: _Decoding) -> _Decoding:
        state, live_B = loop.state, loop.live_B
        feed_B1 = jnp.maximum(state.length_B - 1, 0)[:, None]
        extended: Any = model.apply(
            {"params": params},
            state.cache,
            jnp.take_along_axis(state.tokens_BC, feed_B1, axis=1),
            _previous(state.tokens_BC, feed_B1),
            feed_B1[:, 0],
            live_B.astype(jnp.int32),
            method="extend",
        )
        cache, hidden_B1D = extended
        keys_B = sampling.token_keys(state.key_B4, state.length_B)
        logits_BV = project(hidden_B1D, head, model.transposed)[:, 0]
        token_B, sampler_logp_B, policy_logp_B = sampling.sample(logits_BV, keys_B, temperature, truncation)
        column_B = jnp.where(live_B, loop.count_B, max_message_tokens)  # out of range: dropped
        one_B = live_B.astype(jnp.int32)
        count_B = loop.count_B + one_B
        at_B = jnp.where(live_B, state.length_B, C)
        state = state._replace(
            cache=cache,
            tokens_BC=state.tokens_BC.at[row_B, at_B].set(token_B, mode="drop"),
            length_B=state.length_B + one_B,
        )
        ended_B = sampling.ends_message(state.tokens_BC, state.length_B, state.message_B, stop_sequences)
        return _Decoding(
            step=loop.step + 1,
            state=state,
            live_B=live_B & ~ended_B & (count_B < budget_B) & (state.length_B < C),
            tokens_BT=loop.tokens_BT.at[row_B, column_B].set(token_B, mode="drop"),
            sampler_logp_BT=loop.sampler_logp_BT.at[row_B, column_B].set(sampler_logp_B, mode="drop"),
            policy_logp_BT=loop.policy_logp_BT.at[row_B, column_B].set(policy_logp_B, mode="drop"),
            count_B=count_B,
        )

    shape = (B, max_message_tokens)
    end = jax.lax.while_loop(
        more,
        one_token,
        _Decoding(
            step=jnp.int32(0),
            state=state,
            live_B=live_B,
            tokens_BT=jnp.zeros(shape, jnp.int32),
            sampler_logp_BT=jnp.zeros(shape, jnp.float32),
            policy_logp_BT=jnp.zeros(shape, jnp.float32),
            count_B=jnp.zeros((B,), jnp.int32),
        ),
    )
    return end.state, (end.tokens_BT, end.sampler_logp_BT, end.policy_logp_BT, end.count_B)


def _previous(tokens_BC: Int[Array, "B C"], at_BT: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """The token before each position; 0 before the first, as in `Transformer.hidden`."""
    before_BT = jnp.take_along_axis(tokens_BC, jnp.maximum(at_BT - 1, 0), axis=1)
    return jnp.where(at_BT > 0, before_BT, 0)

"""A policy by script behind the real engine and the real server, for several tests."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from codegym_jax.adapters.serve.app import Service
from codegym_jax.adapters.serve.serving import server
from codegym_jax.report.live.serving import address, listen
from codegym_jax.rollout.token_sampler import Sampled

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Adds.",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
    }
    for name in ("add", "multiply")
]


class ScriptedSampler:
    """Stands in for the device: in each slot it says what `reply` gives for the prompt, token by token.

    Args:
      renderer: whose tokens it speaks.
      reply: a prompt as text -> what is said; or None: nothing that ends.
    """

    extend_width, max_message_tokens = 8, 4

    def __init__(self, renderer, reply: Callable[[str], str | None], *, slots: int = 4, context: int = 2000):
        self.slots, self.max_tokens, self._renderer, self._reply = slots, context, renderer, reply
        self.vocabulary_size, self.stop_sequences = renderer.vocabulary_size, renderer.stop_sequences
        self.prefilled_tokens = self.shared_tokens = 0
        self._left: dict[int, list[int] | None] = {}
        self._key: dict[int, int] = {}

    def choose(self, prompt: Sequence[int], free: Sequence[int]) -> int:
        return free[0]

    def start(self, slot_keys):
        self._key |= {slot: int(key[0]) for slot, key in slot_keys.items()}

    def appending(self, params, tokens_of):
        for slot, ids in tokens_of.items():
            self.prefilled_tokens += len(ids)
            yield len(ids)
            said = self._reply(self._renderer.decode(ids))
            ending = [self._renderer.stop_id]
            self._left[slot] = None if said is None else [*self._renderer.tokenizer.encode(said), *ending]

    def decode(self, params, budget_B, temperature, truncation):
        T = self.max_message_tokens
        tokens_BT, count_B = np.zeros((self.slots, T), np.int32), np.zeros(self.slots, np.int32)
        for slot in np.flatnonzero(budget_B):
            left = self._left[slot]
            some = [self._key[slot] % 26 + 65] * T if left is None else left
            new = some[: budget_B[slot]]
            tokens_BT[slot, : len(new)], count_B[slot] = new, len(new)
            if left is not None:
                self._left[slot] = left[len(new) :]
        logp_BT = -(tokens_BT % 7).astype(np.float32) - 1
        return Sampled(tokens_BT, logp_BT / 2, logp_BT, count_B)


@contextlib.contextmanager
def served(service: Service) -> Iterator[str]:
    """The address of a server that runs as long as the `with` block."""
    with contextlib.closing(listen("127.0.0.1", 0)) as bound:
        running = server(service)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield address(bound).rstrip("/")
        finally:
            running.should_exit = True
            thread.join()

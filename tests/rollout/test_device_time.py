"""What a timed sampler adds up is the time of its calls, and they are the sampler's."""

import numpy as np

from codegym_jax.rollout.agent import TokenSampler
from codegym_jax.rollout.device_time import TimedSampler
from codegym_jax.rollout.generate import Sampled


class Clock:
    """Stands still but for what is said to take time."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


class Slow:
    """A sampler whose calls take a second, two, and four."""

    slots, stop_sequences = 2, ((7,),)

    def __init__(self, clock):
        self.clock, self.calls = clock, []

    def start(self, slot_keys):
        self.clock.now_s += 1.0
        self.calls.append(slot_keys)

    def append(self, params, tokens_of):
        self.clock.now_s += 2.0
        self.calls.append((params, tokens_of))

    def decode(self, params, budget_B, temperature):
        self.clock.now_s += 4.0
        self.calls.append((params, budget_B.tolist(), temperature))
        zeros_BT = np.zeros((2, 1), np.float32)
        return Sampled(np.full((2, 1), 7), zeros_BT, zeros_BT, np.ones(2, int))


def test_laps_are_the_time_in_calls():
    clock = Clock()
    slow = Slow(clock)
    timed = TimedSampler(slow, clock)
    assert isinstance(timed, TokenSampler)
    assert (timed.slots, timed.stop_sequences) == (2, ((7,),))
    timed.start({0: np.zeros(4, np.uint32)})
    clock.now_s += 100.0  # tools
    timed.append("params", {0: [1, 2]})
    assert timed.decode("params", np.array([3, 0]), 0.5).tokens_BT.tolist() == [[7], [7]]
    assert timed.lap() == 7.0
    assert timed.lap() == 0.0
    assert slow.calls[1:] == [("params", {0: [1, 2]}), ("params", [3, 0], 0.5)]

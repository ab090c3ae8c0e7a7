"""What the engines are asked to do: sizes, token ids, and the least work that each takes. NumPy alone."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.engines.checkpoint import Shape

BOS = 1
"""The first token of every prompt, because one engine puts it there unasked."""
_FIRST_ORDINARY = 3  # 0 pads, 1 begins, 2 would end
LEARNING_RATE = 1e-5
MAX_GRAD_NORM = 1.0
WEIGHT_DECAY = 0.1
ADAM_B1, ADAM_B2 = 0.9, 0.95
CLIP = 0.2
"""How far a ratio of probabilities may move from 1; it never does, where one update is made of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """Greedy continuations of a batch of prompts of one length."""

    rows: int = 8
    prompt_tokens: int = 128
    new_tokens: int = 128

    def prompts(self, vocabulary: int) -> np.ndarray:
        """Token ids, one prompt a row."""
        return np.stack(
            [_ids(("prompt", row), self.prompt_tokens, vocabulary, begin=True) for row in range(self.rows)]
        )

    def step_bytes(self, shape: Shape, bytes_per_number: int) -> float:
        """The fewest bytes that one step reads: every parameter, and the keys and values of every row at its
        mean length."""
        length = self.prompt_tokens + self.new_tokens / 2
        return bytes_per_number * (shape.parameters + self.rows * length * shape.cached_per_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTurn:
    """Tool episodes whose policy messages and tool results have fixed lengths; the tools cost nothing."""

    tasks: int = 2
    attempts: int = 4
    turns: int = 6
    prompt_tokens: int = 128
    message_tokens: int = 40
    result_tokens: int = 30

    @property
    def episodes(self) -> int:
        """Played at a time: every attempt of every task."""
        return self.tasks * self.attempts

    @property
    def policy_tokens(self) -> int:
        """Sampled over all episodes."""
        return self.episodes * self.turns * self.message_tokens

    @property
    def length(self) -> int:
        """Tokens of a finished episode; no result follows the last message."""
        return self.prompt_tokens + self.turns * self.message_tokens + (self.turns - 1) * self.result_tokens

    def distinct(self, episodes: Sequence[Sequence[int]]) -> int:
        """The fewest different episodes among a task's attempts.

        Args:
          episodes: token ids, attempts of a task side by side.
        """
        groups = [episodes[start : start + self.attempts] for start in range(0, self.episodes, self.attempts)]
        return min(len({tuple(ids) for ids in group}) for group in groups)

    def tasks_of_round(self, number: int) -> list[int]:
        """Tasks of their own for every round, so that nothing computed in an earlier one serves."""
        return [number * self.tasks + index for index in range(self.tasks)]

    def task_of_episodes(self, number: int) -> list[int]:
        """The task of each episode of a round; attempts of a task side by side."""
        return [task for task in self.tasks_of_round(number) for _ in range(self.attempts)]

    def prompt(self, task: int, vocabulary: int) -> list[int]:
        """Token ids of a task's prompt, which its attempts share."""
        return _ids(("task", task), self.prompt_tokens, vocabulary, begin=True).tolist()

    def result(self, task: int, turn: int, vocabulary: int) -> list[int]:
        """Token ids of what the tool answers in a turn, whatever the policy wrote."""
        return _ids(("result", task, turn), self.result_tokens, vocabulary).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class RlStep(MultiTurn):
    """One step of learning: tool episodes are played and rewarded, and one update is made of all of them."""

    tasks_per_batch: int = 1
    """Whose attempts one forward and backward pass holds; gradients add up over the step's passes."""

    def reward(self, ids: Sequence[int], vocabulary: int) -> float:
        """The mean of the policy's ids over the size of the vocabulary, so in [0, 1): hardly ever the same
        for two different episodes. That of an episode is the sum of those of its messages.

        Args:
          ids: the policy's tokens of an episode, or of one message.
        """
        return sum(ids) / (self.turns * self.message_tokens * vocabulary)

    def learned_tokens(self, episodes: Sequence[Sequence[int]], rewards: Sequence[float]) -> int:
        """The policy's tokens of tasks whose attempts earned different rewards: all others have an advantage
        of 0, and teach nothing."""
        starts = range(0, self.episodes, self.attempts)
        return sum(
            sum(map(len, episodes[start : start + self.attempts]))
            for start in starts
            if len(set(rewards[start : start + self.attempts])) > 1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainStep:
    """One update: forward, backward, clip, AdamW, on rows of which every token but the first is learned."""

    rows: int = 4
    tokens: int = 256

    def batch(self, vocabulary: int, number: int) -> np.ndarray:
        """Token ids of update `number`."""
        return np.stack([_ids(("train", number, row), self.tokens, vocabulary) for row in range(self.rows)])

    def flops(self, shape: Shape) -> float:
        """The fewest floating-point operations: 6 for each token and parameter (the tied embedding once, as
        the head), and 12 for each token, layer, query channel and visible position, of which there are T / 2.

        Source: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B, halved for causality.
        """
        attended = 12 * shape.layers * shape.query_heads * shape.head_width * self.tokens / 2
        return self.rows * self.tokens * (6 * shape.parameters + attended)


Workload = Decode | MultiTurn | RlStep | TrainStep

FULL: dict[str, Workload] = {
    "decode": Decode(),
    "multi_turn": MultiTurn(),
    "rl_step": RlStep(),
    "train_step": TrainStep(),
}
SMALL: dict[str, Workload] = {
    "decode": Decode(rows=2, prompt_tokens=8, new_tokens=8),
    "multi_turn": MultiTurn(attempts=2, turns=3, prompt_tokens=8, message_tokens=4, result_tokens=3),
    "rl_step": RlStep(attempts=2, turns=3, prompt_tokens=8, message_tokens=4, result_tokens=3),
    "train_step": TrainStep(rows=2, tokens=16),
}
"""For `--shape tiny`: no figure comes of it."""


def _ids(name: tuple[object, ...], count: int, vocabulary: int, *, begin: bool = False) -> np.ndarray:
    random = np.random.default_rng(zlib.crc32(repr(name).encode()))
    ids = random.integers(_FIRST_ORDINARY, vocabulary, count, np.int32)
    if begin:
        ids[0] = BOS
    return ids

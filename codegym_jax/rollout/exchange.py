"""Episodes between the processes of a run: each plays a share of the requests, all get all episodes.

Knows no network: it is given a function that gathers bytes.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from codegym_jax.envs.env import Env, EnvError, HostFailure
from codegym_jax.records import Episode, StopReason
from codegym_jax.rollout.agent import EpisodeRequest
from codegym_jax.rollout.episode_log import from_row, to_row

Item = TypeVar("Item")

Gather = Callable[[bytes], list[bytes]]
"""From one process's bytes to those of all, in the order of the processes."""


class EpisodesDisagree(RuntimeError):
    """Two processes of a run saw different episodes, or their tools gave different results."""


def share(items: Sequence[Item], index: int, count: int) -> Sequence[Item]:
    """The contiguous part of the items that is process `index`'s of `count`; sizes differ by at most one."""
    return items[len(items) * index // count : len(items) * (index + 1) // count]


def all_episodes(
    own: Sequence[Episode], requests: Sequence[EpisodeRequest], gather: Gather, *, name: str
) -> list[Episode]:
    """The episodes of all processes, in the order of the requests; every process must call it.

    Args:
      own: this process's, one for each request of its `share`.
      requests: of all processes together; each must hold the same.
      gather: of bytes.
      name: of these episodes, for errors.

    Raises:
      EpisodesDisagree: when the requests were not the same everywhere, or the bytes that arrived.
    """
    parts = gather(pack(own))
    wanted = "".join(f"{request.task.task_id}\n{request.attempt}\n" for request in requests)
    for what, data in (("requests", wanted.encode()), ("episodes", b"".join(parts))):
        _require_same(name, what, gather(hashlib.sha256(data).digest()))
    return [episode for part in parts for episode in unpack(part)]


def _require_same(name: str, what: str, digests: Sequence[bytes]) -> None:
    odd = [str(index) for index, digest in enumerate(digests) if digest != digests[0]]
    if odd:
        raise EpisodesDisagree(
            f"{name}: the {what} of process {', '.join(odd)} are not those of process 0; all of them need the"
            " same program, config and task set"
        )


def pack(episodes: Sequence[Episode]) -> bytes:
    """Episodes as bytes, every bit of them kept."""
    return zlib.compress("\n".join(json.dumps(to_row(episode, "")) for episode in episodes).encode(), 1)


def unpack(data: bytes) -> list[Episode]:
    """The inverse of `pack`."""
    return [from_row(json.loads(line)) for line in zlib.decompress(data).splitlines()]


def neighbor_episode(episodes: Sequence[Episode], index: int, count: int, turn: int) -> Episode | None:
    """The episode that process `index` plays again: one of its neighbor's, another each turn; None without
    a valid one."""
    theirs = [episode for episode in share(episodes, (index + 1) % count, count) if episode.valid]
    return theirs[turn % len(theirs)] if theirs else None


def difference(episode: Episode, env: Env) -> str:
    """Plays an episode's actions again and says what came out otherwise; empty when every byte is the same.

    Args:
      episode: a valid one.
      env: at the start of the episode's task; closed afterwards. If this host fails, nothing is known, and
        nothing said.
    """
    try:
        for number, turn in enumerate(episode.turns, 1):
            observation = env.step(turn.action).observation
            if observation != turn.observation:
                return f"call {number} returned {observation!r}, there {turn.observation!r}"
        reward = env.reward if episode.stop_reason is StopReason.DONE else 0.0
    except (EnvError, HostFailure):
        return ""
    finally:
        env.close()
    return "" if reward == episode.reward else f"reward {reward}, there {episode.reward}"

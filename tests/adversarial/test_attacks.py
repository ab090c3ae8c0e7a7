"""Every attack ends as its row says, and every law of the sandbox holds while it is tried.

The laws, for each row: it ends (fuel sees to that) and the host's process lives on; the same attack gives the
same bytes again, played one by one, many in a call, replayed, forked or restored; a call that trapped might
as well never have been made; no verdict and nothing of the host is in the transcript; and the next, healthy
episode in the same sandbox is the usual one.
"""

import dataclasses
import datetime
import getpass
import os
import pathlib
import platform
import socket
import sys
import threading
import time

import attacks_cheating
import attacks_determinism
import attacks_limits
import attacks_outside
import attacks_sharing
import attacks_text
import pytest
import victim
from attack import QUICK, TRAPS, Attack, Outcome, differences, play

from codegym_jax.envs.check import replay, verify_task
from codegym_jax.envs.env import Env, EnvError
from codegym_jax.records import Rejection, Task

TABLES = (
    attacks_limits,
    attacks_outside,
    attacks_cheating,
    attacks_text,
    attacks_sharing,
    attacks_determinism,
)
ATTACKS = [attack for table in TABLES for attack in table.ATTACKS]
EPISODES = [attack for attack in ATTACKS if attack.actions]

# Healthy, and telling of its guest what would show that another episode had been there before.
HEALTHY = Attack(
    name="healthy",
    why="no attack",
    parts={
        "module": "import random, time",
        "act": "return str([object(), hash('a'), random.random(), time.time()])",
    },
    actions=(
        victim.OBSERVE,
        victim.ACT,
        victim.ADD,
        "?",
        victim.call("Add", index=1),
        victim.ACT,
        victim.RIGHT,
    ),
    ended=True,
    earned=1.0,
)


def test_the_suite_is_large_and_its_rows_have_names():
    assert len(ATTACKS) >= 60
    names = [attack.name for attack in ATTACKS]
    assert sorted(set(names)) == sorted(names)


@pytest.fixture(scope="module")
def healthy(sandbox_with):
    """The outcome of a healthy episode before anybody attacked."""
    return play(sandbox_with(QUICK), HEALTHY)


@pytest.fixture(scope="module")
def host_words():
    """What would give the host away."""
    now = datetime.datetime.now()
    words = {
        getpass.getuser(),
        socket.gethostname(),
        platform.release(),
        str(pathlib.Path.cwd()),
        sys.version,
    }
    words |= {f"{now:%Y-%m-%d}", str(int(time.time()))[:8], *(v for v in os.environ.values() if "/" in v)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEGYM_CANARY", "canary-4f1c9a")
        yield {"canary-4f1c9a", *(word for word in words if len(word) > 4)}


@pytest.mark.parametrize("attack", EPISODES, ids=lambda attack: attack.name)
def test_an_attack_ends_as_its_row_says_and_breaks_no_law(attack, sandbox_with, healthy, host_words):
    sandbox = sandbox_with(attack.limits)
    outcome = play(sandbox, attack)
    assert differences(attack, outcome.results) == []
    assert (outcome.ended, outcome.earned) == (attack.ended, attack.earned)
    assert play(sandbox, attack) == outcome
    assert_the_same_in_other_ways(sandbox, attack, outcome)
    assert_a_fork_goes_on_alike(sandbox, attack, outcome)
    assert_a_trap_leaves_nothing(sandbox, attack, outcome)
    assert_it_keeps_secrets(outcome, host_words)
    assert play(sandbox_with(QUICK), HEALTHY) == healthy


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.refused], ids=lambda attack: attack.name)
def test_an_environment_that_attacks_while_it_is_loaded_is_refused(attack, sandbox_with, healthy, host_words):
    details = []
    for _ in range(2):
        with pytest.raises(EnvError) as caught:
            Env(sandbox_with(attack.limits), victim.spec(**attack.parts), victim.CONFIG)
        assert caught.value.reason == attack.refused
        details.append(caught.value.detail)
        assert len(caught.value.detail) < 2100
    assert details[0] == details[1]
    assert not any(word in details[0] for word in host_words)
    assert play(sandbox_with(QUICK), HEALTHY) == healthy


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.rejected], ids=lambda attack: attack.name)
def test_verification_rejects(attack, sandbox_with, healthy, host_words):
    bounds = {"min_calls": 3, "max_calls": 512, "max_answer_chars": 100}
    sandbox, spec = sandbox_with(attack.limits), victim.spec(**attack.parts)
    first, second = (verify_task(sandbox, spec, victim.CONFIG, **bounds) for _ in range(2))
    assert isinstance(first, Rejection), first
    assert first.reason == attack.rejected, first.detail
    assert first == second
    assert not any(word in first.detail for word in host_words)
    assert play(sandbox_with(QUICK), HEALTHY) == healthy


def test_verification_accepts_what_is_only_odd(sandbox_with):
    """An oracle whose tools answer in lone surrogates: its record holds what `step` sends, their escapes."""
    solve = """
        for _ in range(3): call("Act")
        return call("Done", answer=12)
        """
    spec = victim.spec(act="return chr(0xD800)", solve=solve)
    task = verify_task(sandbox_with(QUICK), spec, victim.CONFIG, min_calls=3, max_calls=9, max_answer_chars=9)
    assert isinstance(task, Task), task
    assert task.oracle_observations[0] == "\\ud800"


def test_attackers_and_others_may_take_turns(sandbox_with, healthy):
    """Many episodes live at once; every other one attacks, and the ones between do not notice."""
    attack = next(attack for attack in EPISODES if attack.name == "state in an attribute of json")
    sandbox = sandbox_with(QUICK)
    alone = play(sandbox, attack)
    rows = [HEALTHY, attack] * 3
    envs = [Env(sandbox, victim.spec(**row.parts), victim.CONFIG) for row in rows]
    results = [[] for _ in rows]
    for turn in range(max(len(row.actions) for row in rows)):
        for row, env, got in zip(rows, envs, results, strict=True):
            if turn < len(row.actions):
                got.append(env.step(row.actions[turn]))
    for row, env, got in zip(rows, envs, results, strict=True):
        assert got == (healthy if row is HEALTHY else alone).results
        env.close()


def test_a_stack_overflows_in_a_thread_as_elsewhere(sandbox_with):
    """The Wasm stack lies on the thread's own, which must be larger: see `SandboxConfig.stack_bytes`."""
    attack = next(attack for attack in EPISODES if attack.name == "dropping lists nested 100,000 deep")
    outcomes = []
    before = threading.stack_size(8 * 2**20)
    try:
        thread = threading.Thread(target=lambda: outcomes.append(play(sandbox_with(attack.limits), attack)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert differences(attack, outcomes[0].results) == []


def assert_the_same_in_other_ways(sandbox, attack: Attack, outcome: Outcome):
    """Replayed, and all in one call: an episode does not depend on how its actions travel."""
    spec = victim.spec(**attack.parts)
    observations = [result.observation for result in outcome.results]
    assert replay(sandbox, spec, victim.CONFIG, attack.actions) == (observations, outcome.earned)
    env = Env(sandbox, spec, victim.CONFIG)
    results = env.step_many(attack.actions)
    env.close()
    assert len(results) == len(attack.actions)
    if attack.travels:
        assert results == outcome.results
        assert (env.finished, env.reward, env.verdict) == (outcome.ended, outcome.earned, outcome.verdict)


def assert_a_fork_goes_on_alike(sandbox, attack: Attack, outcome: Outcome):
    """From the middle of the episode, a fork, a restored state and the episode itself end in the same way."""
    half = len(attack.actions) // 2
    before, after = attack.actions[:half], attack.actions[half:]
    env = Env(sandbox, victim.spec(**attack.parts), victim.CONFIG)
    results = [env.step(action) for action in before]
    assert results == outcome.results[:half]
    state, fork = env.clone_state(), env.fork()
    for episode in (fork, env):
        assert [episode.step(action) for action in after] == outcome.results[half:]
        assert (episode.reward, episode.verdict) == (outcome.earned, outcome.verdict)
    fork.close()
    env.restore_state(state)
    assert [env.step(action) for action in after] == outcome.results[half:]
    assert (env.reward, env.verdict) == (outcome.earned, outcome.verdict)
    env.close()


def assert_a_trap_leaves_nothing(sandbox, attack: Attack, outcome: Outcome):
    """Without the calls that trapped, the rest of the episode is the same."""
    trapped = frozenset(
        i for i, result in enumerate(outcome.results) if result.error in TRAPS and not result.finished
    )
    if trapped:
        without = play(sandbox, attack, leave_out=trapped)
        kept = [result for i, result in enumerate(outcome.results) if i not in trapped]
        assert dataclasses.replace(without, fuel=0) == dataclasses.replace(outcome, results=kept, fuel=0)


def assert_it_keeps_secrets(outcome: Outcome, host_words):
    seen = [result.observation for result in outcome.results]
    assert len(outcome.verdict) < 8300
    assert not any(word in text for word in host_words for text in [*seen, outcome.verdict])
    assert not any("the answer is" in text for text in seen)

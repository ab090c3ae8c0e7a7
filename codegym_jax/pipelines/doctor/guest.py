"""The guest: its artefact is the pinned one, environments run in it, and its limits fire."""

import json
import lzma
import pathlib
from collections.abc import Iterator
from time import monotonic

from codegym_jax.config import SandboxConfig, UserError
from codegym_jax.envs.artefact import Artefact, find_artefact
from codegym_jax.envs.codegym_format import parse_source
from codegym_jax.envs.env import Env, EnvError, HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.doctor.finding import Finding, fail, first_line, ok
from codegym_jax.pipelines.doctor.trial_environment import CODE_ID, CONFIG_JSON, SOURCE
from codegym_jax.records import CallError, EnvSpec

_REBUILD = "restore envs_wasm/dist (git checkout -- envs_wasm/dist), or make guest"
_COMPILED_S = 3.0
"""Loading a compiled guest takes a fraction of it, compiling one much longer."""


def check_artefact(artefact: Artefact | None = None) -> Finding:
    """Whether the artefact's bytes are those that its manifest names."""
    try:
        artefact = artefact or find_artefact()
        size = len(artefact.wasm())
    except (UserError, OSError) as error:
        return fail("guest artefact", str(error), _REBUILD)
    except (lzma.LZMAError, EOFError) as error:
        return fail("guest artefact", f"{artefact and artefact.path}: {first_line(error)}", _REBUILD)
    return ok("guest artefact", f"sha256 {artefact.wasm_sha256[:12]}, {size / 1e6:.1f} MB")


def check_sandbox(limits: SandboxConfig, cache: pathlib.Path) -> Iterator[Finding]:
    """Plays a small environment by its own oracle and by its actions, then lets it run into its limits.

    Args:
      limits: of the run.
      cache: where compiled guests are kept.
    """
    start_s = monotonic()
    try:
        sandbox = Sandbox(limits, cache)
    except (UserError, OSError) as error:
        yield fail("sandbox", first_line(error), f"see the message; compiled guests are kept in {cache}")
        return
    took_s = monotonic() - start_s
    yield ok("sandbox", f"guest {'compiled' if took_s > _COMPILED_S else 'loaded'} in {took_s:.1f} s")
    spec = parse_source(SOURCE, code_id=CODE_ID)
    try:
        yield _episode(sandbox, spec)
        for tool, error in (("Spin", CallError.OUT_OF_FUEL), ("Hoard", CallError.OUT_OF_MEMORY)):
            yield _limit(sandbox, spec, tool, error)
    except (EnvError, HostFailure) as error:
        yield fail("sandbox episode", first_line(error), _REBUILD)


def _episode(sandbox: Sandbox, spec: EnvSpec) -> Finding:
    start_s = monotonic()
    oracle, played = Env(sandbox, spec, CONFIG_JSON), Env(sandbox, spec, CONFIG_JSON)
    actions, observations = oracle.run_oracle()
    seen = [played.step(action).observation for action in actions]
    took_s = monotonic() - start_s
    if (oracle.reward, played.reward) != (1.0, 1.0) or seen[:-1] != observations[:-1]:
        told = f"its oracle earned {oracle.reward:g}, its actions {played.reward:g}, where both earn 1"
        return fail("sandbox episode", told, _REBUILD)
    return ok("sandbox episode", f"{len(actions)} calls twice, reward 1, {took_s * 1e3:.0f} ms")


def _limit(sandbox: Sandbox, spec: EnvSpec, tool: str, expected: CallError) -> Finding:
    """A tool that never returns, or takes all memory, must fail so, and leave the episode as it was."""
    env = Env(sandbox, spec, CONFIG_JSON)
    check = f"sandbox limit, {expected.value.removeprefix('out_of_')}"
    start_s = monotonic()
    error = env.step(json.dumps({"name": tool, "parameters": {}})).error
    took_s = monotonic() - start_s
    after = env.step(json.dumps({"name": "Observe", "parameters": {}}))
    if error is not expected or after.error is not None:
        said = error.value if error else "no error"
        fix = "do not train on this machine: a policy could hang it; report what `codegym doctor --json` says"
        return fail(check, f"{tool} ended with {said}, where it must with {expected.value}", fix)
    return ok(check, f"fires after {took_s:.2f} s; the episode goes on")

"""What the author of an environment wants to know before it goes into a task set: `codegym check-env`.

`verify_task` decides whether a task may be trusted; this tells, in addition, what is worth a look and what to
do about it. Everything that runs, runs in guests.
"""

import pathlib
from collections.abc import Sequence

from codegym_jax.config import SandboxConfig, UserError
from codegym_jax.envs.action import DONE, OBSERVE
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.audit.bad_calls import check_bad_calls
from codegym_jax.envs.audit.cost import check_cost
from codegym_jax.envs.audit.determinism import check_batches, check_builds
from codegym_jax.envs.audit.finding import CHECKS as CHECKS
from codegym_jax.envs.audit.finding import Finding as Finding
from codegym_jax.envs.audit.finding import Report as Report
from codegym_jax.envs.audit.finding import Verdict as Verdict
from codegym_jax.envs.audit.finding import count, failed, ordered, passed
from codegym_jax.envs.audit.form import check_form
from codegym_jax.envs.audit.habits import check_habits
from codegym_jax.envs.audit.leaks import check_leaks
from codegym_jax.envs.audit.oracle import check_answers, check_oracle, check_tools, refusals
from codegym_jax.envs.audit.plays import DEFAULT_CONFIG, play
from codegym_jax.envs.check import TaskBounds
from codegym_jax.envs.codegym_format import FormatError, canonical_config, load_environment, read_rows
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection

ENOUGH_CONFIGS = 3


def two_builds(cache_dir: pathlib.Path | None = None) -> tuple[Sandbox, Sandbox]:
    """Guests of the pinned artefact, and of another build of the same sources, where strings hash otherwise.

    Args:
      cache_dir: where compiled guests are kept; the user's cache folder unless given.

    Raises:
      ArtefactError: when an artefact is missing or damaged, or its compiled form cannot be kept.
    """
    limits = SandboxConfig()
    runtimes = [ModuleRuntime(limits, cache_dir, find_artefact(name)) for name in ("guest", "second")]
    return Sandbox(limits, runtime=runtimes[0]), Sandbox(limits, runtime=runtimes[1])


def audit_file(
    path: pathlib.Path,
    sandbox: Sandbox,
    second: Sandbox,
    *,
    config_json: str | None = None,
    rows: pathlib.Path | None = None,
    bounds: TaskBounds | None = None,
) -> Report:
    """Audits one environment file.

    Args:
      second: makes guests of another build (`two_builds`).
      config_json: the one config to try; unless given, those of `rows`, or else the class's default.
      rows: task rows like `training_instance.jsonl`; those of other environments are passed over.

    Raises:
      UserError: when the file or the rows cannot be read, the config is no JSON object, or no row is of
        this environment.
      HostFailure: when the host failed.
    """
    try:
        path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from error
    try:
        spec = load_environment(path)
    except FormatError as error:
        hint = "README.md and tests/fixtures/published show the published format"
        found = [failed("format", str(error).removeprefix(f"{path}: "), hint)]
        return _report(path, "", sandbox, 0, found)
    configs = [DEFAULT_CONFIG]
    if config_json is not None:
        configs = [canonical_config(config_json)]
    elif rows is not None:
        configs = _configs(rows, spec.env_id)
    found = audit(spec, configs, sandbox, second, bounds or TaskBounds())
    return _report(path, spec.env_id, sandbox, len(configs), found)


def audit(
    spec: EnvSpec, configs: Sequence[str], sandbox: Sandbox, second: Sandbox, bounds: TaskBounds
) -> list[Finding]:
    """Audits an environment on some configs; findings in no order."""
    found = check_form(spec) + check_habits(spec) + _enough(configs)
    if not {OBSERVE, DONE} <= {tool.name for tool in spec.tools}:
        return found  # no policy could play it
    tried = [play(sandbox, spec, config, bounds) for config in configs]
    plays = [result for result in tried if not isinstance(result, Rejection)]
    found += refusals([result for result in tried if isinstance(result, Rejection)], len(tried))
    if not plays:
        return found
    return [
        *found,
        *check_oracle(plays),
        *check_answers(sandbox, spec, plays),
        *check_batches(sandbox, spec, plays),
        *check_builds(second, spec, plays),
        *check_leaks(sandbox, spec, plays),
        *check_tools(spec, plays),
        *check_bad_calls(sandbox, spec, plays, bounds),
        *check_cost(sandbox.limits, bounds, plays),
    ]


def _configs(rows: pathlib.Path, env_id: str) -> list[str]:
    """The different configs that the rows hold for an environment, in their order."""
    configs: dict[str, None] = {}
    for row in read_rows(rows):
        if isinstance(row, Rejection):
            raise UserError(f"{row.subject}: {row.detail}")
        _, task, _ = row
        if task.env_id == env_id:
            configs[task.config_json] = None
    if not configs:
        raise UserError(f"{rows}: no row is of {env_id}")
    return list(configs)


def _enough(configs: Sequence[str]) -> list[Finding]:
    told = count(len(configs), "config")
    if list(configs) == [DEFAULT_CONFIG]:
        told = "only the class's default config"
    few = f"give {ENOUGH_CONFIGS} or more with --tasks rows.jsonl: the other checks then find more"
    return [passed("configs", told, few if len(configs) < ENOUGH_CONFIGS else "")]


def _report(path: pathlib.Path, env_id: str, sandbox: Sandbox, tried: int, found: list[Finding]) -> Report:
    return Report(
        path=str(path),
        env_id=env_id,
        guest_hash=sandbox.guest_hash,
        config_count=tried,
        findings=ordered(found),
    )

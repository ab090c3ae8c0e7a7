"""What a config takes from outside: tasks, problems, a tokenizer, weights; and the hub that has these."""

import os
import pathlib
import urllib.error
import urllib.request

from codegym_jax.config import CORPORA, RunConfig, UserError
from codegym_jax.data.task_set import TaskSet
from codegym_jax.data.tokenizer import Tokenizer
from codegym_jax.models.weights import open_weights
from codegym_jax.pipelines.doctor.finding import Finding, fail, first_line, not_checked, ok, warn
from codegym_jax.pipelines.workbench import check_task_set
from codegym_jax.synthesis.problems.corpora import corpus

HUB = "hub:"
_HUB_ADDRESS = "https://huggingface.co"
_TIMEOUT_S = 5.0


def check_tasks(config: RunConfig, run: pathlib.Path | None) -> list[Finding]:
    """The task set: the run's own copy, or the one that the config names, or the problems to make one of.

    Args:
      run: the run folder; None where it is on a bucket.
    """
    own = run / "task_set" if run else None
    named = pathlib.Path(config.data.task_set) if config.data.task_set else None
    folder = own if own and own.exists() else named
    if folder is None:
        return [_source(source) for source in config.synthesis.sources]
    try:
        check_task_set(folder)
        task_set = TaskSet.open(folder)
    except (UserError, OSError) as error:
        return [fail("task set", str(error), "make it again, or name another by data.task_set")]
    environments, tasks = len(task_set.specs), sum(task_set.counts.values())
    return [ok("task set", f"{folder}: {environments:,} environments, {tasks:,} tasks")]


def check_tokenizer(config: RunConfig) -> Finding:
    """The tokenizer that the config names."""
    source = config.policy.tokenizer
    if not source:
        what = "of the weights" if config.policy.weights else "trained on the task set"
        return not_checked("tokenizer", f"the config names none: it is {what}")
    try:
        tokenizer = Tokenizer.load(source)
    except (UserError, OSError) as error:
        return fail("tokenizer", str(error), "name a tokenizer.json or its folder by policy.tokenizer")
    return ok("tokenizer", f"{source}: {tokenizer.vocabulary_size:,} ids")


def check_weights(config: RunConfig) -> Finding:
    """The pretrained weights that the config names: found, and of the shape that their config asks for."""
    source = config.policy.weights
    if not source:
        return not_checked("weights", "the config names none: parameters are random")
    if source.startswith(HUB):
        return not_checked("weights", f"{source}: they are fetched when a run starts; see the hub's row")
    try:
        weights = open_weights(source)
    except (UserError, OSError) as error:
        return fail("weights", str(error), "name others by policy.weights, or install what the message names")
    tensors = weights.store.tensors()
    return ok("weights", f"{source}: {len(tensors):,} tensors, {weights.vocabulary_size:,} ids")


def check_hub(config: RunConfig) -> Finding:
    """Whether the Hugging Face hub has the weights that the config takes from there."""
    source = config.policy.weights
    if not source.startswith(HUB):
        return not_checked("Hugging Face hub", "the config takes nothing from it")
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return not_checked(
            "Hugging Face hub", "HF_HUB_OFFLINE is set, so a run takes what was fetched before"
        )
    name, _, revision = source.removeprefix(HUB).partition("@")
    return look_up(os.environ.get("HF_ENDPOINT", _HUB_ADDRESS), name, revision or "main")


def look_up(hub: str, repository: str, revision: str, timeout_s: float = _TIMEOUT_S) -> Finding:
    """Asks a hub for a repository, without any token."""
    check, address = "Hugging Face hub", f"{hub.rstrip('/')}/api/models/{repository}/revision/{revision}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout_s):
            return ok(check, f"{hub} has {repository}")
    except urllib.error.HTTPError as error:
        with error:
            return _refused(check, f"{hub} says {error.code} for {repository}@{revision}", error.code)
    except (OSError, ValueError) as error:
        fix = "check the network and HF_ENDPOINT; or fetch the weights elsewhere and name their folder"
        return fail(check, f"{hub}: {first_line(error)}", fix)


def _refused(check: str, told: str, code: int) -> Finding:
    if code in (401, 403):
        token = "HF_TOKEN is set, and may open it" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
        return warn(
            check, f"{told}: private, gated, or not there; {token}", "hf auth login, or mend the name"
        )
    if code == 404:
        return fail(check, f"{told}: not there", "mend the name or the revision in policy.weights")
    return warn(check, told, "try again later")


def _source(source: str) -> Finding:
    """Problems to make tasks of; a file or folder is only looked for."""
    check = f"problems, {source}"
    if source not in CORPORA:
        if pathlib.Path(source).exists():
            return ok(check, "found")
        return fail(check, "not found", "mend synthesis.sources, or name a task set by data.task_set")
    try:
        corpus(source)
    except (UserError, OSError) as error:
        return fail(check, str(error), "pip install 'codegym-jax[problems]', see BUILD.md")
    return ok(check, "found")

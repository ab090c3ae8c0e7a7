"""Commands that make task sets of coding problems, and choose among their tasks: synth, synth-llm, filter."""

import argparse
import os
import pathlib
from typing import Any

from codegym_jax.cli.experiment_file import add_experiment, load_config, run_folder
from codegym_jax.cli.host import cache_dir, with_jax
from codegym_jax.config import UserError

_EXAMPLES = """examples:
  codegym synth-llm --base-url http://localhost:8000/v1 --model mine --store runs/llm --out task_sets/mine
  codegym synth-llm ... --problems 100 --dry-run        how many requests that is, and their cost at most
  codegym synth-llm ... --prices 2.0 8.0 --budget 25    per million tokens in and out; stops below 25

The same command goes on after a stop or a kill, and asks for no completion twice. The API key is read from
OPENAI_API_KEY.
"""


def add(commands: Any) -> None:
    """Adds them."""
    synth = add_experiment(commands, "synth", "Coding problems to a verified task set.", _synth, run=False)
    synth.add_argument("--out", type=pathlib.Path, help="also copy the task set to this new folder")
    synth.add_argument(
        "--runner",
        choices=("local", "direct", "dataflow"),
        default="local",
        help="who does the work: all cores of this machine (local), Apache Beam in this process (direct), or"
        " Dataflow, with Beam's options after -- (launch/dataflow_synth.sh gives them)",
    )
    _add_synth_llm(commands)
    _add_filter(commands)


def _add_synth_llm(commands: Any) -> None:
    summary = "Coding problems to a task set by a language model behind an OpenAI-compatible endpoint."
    command = commands.add_parser(
        "synth-llm",
        help=summary,
        description=summary,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--base-url", required=True, help="of the endpoint, such as http://localhost:8000/v1"
    )
    command.add_argument("--model", required=True, help="its name there")
    command.add_argument(
        "--store", type=pathlib.Path, required=True, help="where completions are kept for ever"
    )
    command.add_argument("--out", type=pathlib.Path, required=True, help="the folder of the task set")
    command.add_argument(
        "--sources",
        nargs="+",
        default=["humaneval", "codeio"],
        help="of problems: humaneval, codeio, algorithms, or paths of .jsonl, .jsonl.gz and .parquet files or"
        " of folders of Python modules",
    )
    command.add_argument(
        "--licenses", nargs="+", default=(), help="only problems under these; all by default"
    )
    command.add_argument("--own-license", default="unknown", help="of problems from a path that name none")
    command.add_argument("--problems", type=int, default=160, help="of each source, at most (default 160)")
    command.add_argument("--seed", type=int, default=0, help="of the choice of problems and the splits")
    command.add_argument("--hard", action="store_true", help="ask for hard configs too")
    command.add_argument(
        "--concurrency", type=int, default=32, help="requests under way at a time (default 32)"
    )
    command.add_argument(
        "--prices", nargs=2, type=float, default=(0.0, 0.0), metavar=("IN", "OUT"), help="per million tokens"
    )
    command.add_argument(
        "--budget", type=float, default=0.0, help="what the whole store may cost; 0 is no limit"
    )
    command.add_argument("--extra-json", default="{}", help="further fields of every request's body")
    command.add_argument("--dry-run", action="store_true", help="ask nothing; say what would be asked")
    command.set_defaults(call=_synth_llm)


def _add_filter(commands: Any) -> None:
    summary = "Keep the tasks of a task set that a policy solves neither too often nor too rarely."
    command = commands.add_parser("filter", help=summary, description=summary)
    command.add_argument("task_set", type=pathlib.Path, help="a folder that `codegym synth` made")
    command.add_argument(
        "--policy", type=run_folder, required=True, metavar="RUN", help="a run folder, finished or not"
    )
    command.add_argument(
        "--stage",
        choices=("sft", "train", "control"),
        default="",
        help="whose parameters (default: of train, else sft)",
    )
    command.add_argument("--tries", type=int, default=4, help="attempts at each task (default 4)")
    command.add_argument("--min-pass-rate", type=float, default=0.0, help="of kept tasks (default 0)")
    command.add_argument("--max-pass-rate", type=float, default=0.25, help="of kept tasks (default 0.25)")
    command.add_argument("--seed", type=int, default=0, help="of the attempts")
    command.add_argument(
        "--split", nargs="+", help="attempt the tasks of these alone and keep the others (default: all)"
    )
    command.add_argument("--out", type=pathlib.Path, required=True, help="the new task set")
    command.set_defaults(call=_filter)


def _synth(options: argparse.Namespace) -> int:
    config = load_config(options)
    from codegym_jax.pipelines.synth import export, synthesize

    if options.passed_on and options.runner == "local":
        raise UserError("what follows -- are options of Apache Beam; give --runner direct or dataflow too")
    folder = synthesize(config, cache_dir(), runner=options.runner, beam_options=options.passed_on)
    print(f"task set: {export(folder, options.out) if options.out else folder}")
    return 0


def _synth_llm(options: argparse.Namespace) -> int:
    from codegym_jax.config import DataConfig, SandboxConfig
    from codegym_jax.pipelines.synth_llm import most_requests, synthesize_with_llm
    from codegym_jax.synthesis.llm.settings import BudgetConfig, EndpointConfig, LlmConfig
    from codegym_jax.synthesis.problems import load_problems

    endpoint = EndpointConfig(
        base_url=options.base_url,
        model=options.model,
        concurrency=options.concurrency,
        extra_json=options.extra_json,
    )
    prompt_price, completion_price = options.prices
    budget = BudgetConfig(money=options.budget, prompt_price=prompt_price, completion_price=completion_price)
    config = LlmConfig(endpoint=endpoint, budget=budget, hard_tests=options.hard)
    problems = load_problems(
        options.sources, options.problems, options.seed, options.licenses, options.own_license
    )
    if options.dry_run:
        requests = most_requests(config, len(problems))
        tokens = requests * config.max_tokens
        print(
            f"{len(problems)} problems: at most {requests} requests to {options.base_url} ({options.model})"
        )
        print(f"at most {tokens} completion tokens, {tokens * completion_price / 1e6:.2f} at the price given")
        return 0
    synthesize_with_llm(
        problems,
        config,
        sandbox=SandboxConfig(),
        data=DataConfig(),
        seed=options.seed,
        store=options.store,
        out=options.out,
        api_key=os.environ.get("OPENAI_API_KEY", "none"),  # endpoints of one's own mostly want none
        cache_dir=cache_dir(),
    )
    return 0


def _filter(options: argparse.Namespace) -> int:
    with_jax()
    from codegym_jax.data.splits import SPLITS
    from codegym_jax.data.working_copy import looked_at
    from codegym_jax.pipelines.filter import PassRateBounds, filter_task_set

    bounds = PassRateBounds(
        tries=options.tries,
        min_pass_rate=options.min_pass_rate,
        max_pass_rate=options.max_pass_rate,
        seed=options.seed,
        splits=tuple(options.split or SPLITS),
    )
    policy = looked_at(options.policy)
    filter_task_set(options.task_set, policy, options.out, bounds, cache_dir(), stage=options.stage)
    return 0

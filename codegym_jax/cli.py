"""The command `codegym`: parse, build a config, call one function."""

import argparse
import json
import logging
import os
import pathlib
import sys
from collections.abc import Sequence

from codegym_jax.config import UserError
from codegym_jax.data.splits import SPLITS

EXAMPLES = """examples:
  codegym run configs/smoke_cpu.py --run runs/smoke          every stage, resumes where it stopped
  codegym run configs/smoke_cpu.py --run runs/b --set seed=1 train.steps=20
  codegym synth configs/smoke_cpu.py                         coding problems to a verified task set
  codegym synth configs/smoke_cpu.py --runner direct         the same by Apache Beam
  codegym filter task_sets/all --policy runs/smoke --max-pass-rate 0.25 --tries 4 --out task_sets/hard
  codegym synth-llm --help                                   the same by a language model
  codegym verify envs/*.py --tasks rows.jsonl --json out.json
  codegym check-env envs/Own_1__MyEnv.py --tasks rows.jsonl  what its author wants to know
  codegym import rows.jsonl --out task_sets/mine             rows of others to a verified task set
  codegym plan configs/qwen2_5_7b_v5p.py --devices v5p-64     does it fit? exit code 1 when not
  codegym replay runs/smoke                                  re-execute every stored episode
"""

CHECK_ENV_EXAMPLES = """examples:
  codegym check-env Own_1__MyEnv.py                           with the class's default config
  codegym check-env Own_1__MyEnv.py --tasks rows.jsonl        with the rows of this environment: finds most
  codegym check-env Own_1__MyEnv.py --config '{"n": 7}'
  codegym check-env Own_1__MyEnv.py --tasks rows.jsonl --json | jq .conclusion

exit code: 0 accepted, perhaps with warnings; 1 refused; 2 a file or a config could not be read
"""


SYNTH_LLM_EXAMPLES = """examples:
  codegym synth-llm --base-url http://localhost:8000/v1 --model mine --store runs/llm --out task_sets/mine
  codegym synth-llm ... --problems 100 --dry-run        how many requests that is, and their cost at most
  codegym synth-llm ... --prices 2.0 8.0 --budget 25    per million tokens in and out; stops below 25

The same command goes on after a stop or a kill, and asks for no completion twice. The API key is read from
OPENAI_API_KEY.
"""


MAX_SHOWN = 20
"""Refusals that are printed; more are only counted."""

EXPORT_EXAMPLES = """examples:
  codegym export task_sets/mine --format jsonl --out mine.jsonl
  codegym export task_sets/mine --format parquet --out train.parquet --split train --license MIT Apache-2.0
  codegym export task_sets/mine --format published --out mine/

`codegym import` takes all of them back.
"""

IMPORT_EXAMPLES = """examples:
  codegym import training_instance.jsonl --out task_sets/codegym --license CC-BY-NC-4.0
  codegym import tasks/*.parquet --environments envs.parquet --out task_sets/codegym --license CC-BY-NC-4.0
  codegym run configs/smoke_cpu.py --run runs/a --set data.task_set=task_sets/codegym

The same command goes on after a kill. The exit code is 1 when nothing was verified.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
      The exit code: 0 for success, 1 when something checked was found wrong, 2 for a user's mistake.
    """
    parser = _parser()
    arguments, passed_on = _split_at_dashes(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(arguments, argparse.Namespace(passed_on=passed_on))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return options.call(options)
    except (UserError, OSError) as error:
        print(f"codegym {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"codegym {options.command}: interrupted; the same command resumes", file=sys.stderr)
        return 130


def _split_at_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of `codegym synth` before `--`, and what follows it, which is Apache Beam's."""
    arguments = list(arguments)
    if arguments[:1] != ["synth"] or "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codegym",
        description="Coding problems to verified tool-use environments, and RL on them in JAX.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def experiment(name: str, summary: str, call, *, run: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("config", help="an experiment file, such as configs/smoke_cpu.py")
        if run:
            command.add_argument(
                "--run", type=pathlib.Path, help="the run folder; default: runs/NAME_OF_CONFIG"
            )
        command.add_argument(
            "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override settings"
        )
        command.set_defaults(call=call)
        return command

    experiment("run", "Every stage: synthesize, warm-start, reinforce, evaluate, replay, report.", _run)
    synth = experiment("synth", "Coding problems to a verified task set.", _synth, run=False)
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
    experiment("sft", "Warm-start the policy on oracle episodes.", _sft)
    experiment("train", "Improve the warm-started policy by reinforcement learning.", _train)
    evaluate = experiment("eval", "Success on held-out tasks, greedy and sampled.", _evaluate)
    evaluate.add_argument(
        "--stage",
        choices=("start", "sft", "train", "control"),
        help="whose parameters; start: random or pretrained ones; default: of the last stage that saved any",
    )
    evaluate.add_argument(
        "--split", nargs="+", default=["validation_config"], choices=SPLITS, help="of the task set"
    )
    experiment(
        "control", "Spend the time of RL on more supervised learning instead, and evaluate that.", _control
    )

    plan = experiment(
        "plan", "What a run needs on each device, from shapes alone, and whether it fits.", _plan, run=False
    )
    plan.add_argument(
        "--devices",
        required=True,
        metavar="NAME-NUMBER",
        help="v5p-64, v6e-64, h100-8, cpu-1, ...; v4 and v5p slices are named by TensorCores, two a chip",
    )

    replay = commands.add_parser("replay", help="Re-execute a run's episodes and compare every byte.")
    replay.add_argument("run", type=pathlib.Path, help="a run folder")
    replay.set_defaults(call=_replay)
    report = commands.add_parser("report", help="Write RUN/report.html again.")
    report.add_argument("run", type=pathlib.Path, help="a run folder")
    report.set_defaults(call=_report)
    _add_task_set_commands(commands)
    verify = commands.add_parser("verify", help="Verify environments in the published format.")
    verify.add_argument(
        "paths", nargs="+", type=pathlib.Path, metavar="PATH", help="environment .py files or folders"
    )
    verify.add_argument("--tasks", type=pathlib.Path, help="rows like training_instance.jsonl")
    verify.add_argument("--json", type=pathlib.Path, help="write the full result here")
    verify.set_defaults(call=_verify)
    summary = "Tell an author what is wrong with an environment, or worth a look."
    check_env = commands.add_parser(
        "check-env",
        help=summary,
        description=summary,
        epilog=CHECK_ENV_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check_env.add_argument("file", type=pathlib.Path, help="an environment, <code_id>__<Class>.py")
    configs = check_env.add_mutually_exclusive_group()
    configs.add_argument("--config", metavar="JSON", help="try this config")
    configs.add_argument(
        "--tasks", type=pathlib.Path, help="try the configs of rows like training_instance.jsonl"
    )
    check_env.add_argument("--json", action="store_true", help="print JSON instead of a table")
    check_env.set_defaults(call=_check_env)
    return parser


def _add_task_set_commands(commands) -> None:
    summary = "Write a task set's card again: README.md, card.html, funnel.svg."
    card = commands.add_parser("card", help=summary, description=summary)
    card.add_argument("task_set", type=pathlib.Path, metavar="TASK_SET", help="the folder of a task set")
    card.add_argument("--out", type=pathlib.Path, help="another folder for the card")
    card.set_defaults(call=_card)

    export = commands.add_parser(
        "export",
        help="A task set's tasks as JSON lines, Parquet, or rows in the published format.",
        description="Write a task set's tasks for other tools.",
        epilog=EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("task_set", type=pathlib.Path, metavar="TASK_SET", help="the folder of a task set")
    export.add_argument("--format", choices=("jsonl", "parquet", "published"), required=True)
    export.add_argument("--out", type=pathlib.Path, required=True, help="a file; for published a folder")
    export.add_argument("--split", nargs="+", default=[], choices=SPLITS, help="only these")
    export.add_argument("--license", nargs="+", default=[], help="only what is under these, such as MIT")
    export.add_argument("--origin", nargs="+", default=[], help="only what is from these, such as humaneval")
    export.set_defaults(call=_export)

    imported = commands.add_parser(
        "import",
        help="Rows of the published data set, or exported ones, to a verified task set.",
        description="Verify environments and tasks that somebody else made, and write a task set of them.",
        epilog=IMPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    imported.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE", help=".jsonl or .parquet")
    imported.add_argument("--out", type=pathlib.Path, required=True, help="a new folder for the task set")
    imported.add_argument("--license", default="", help="of rows that name none, such as CC-BY-NC-4.0")
    imported.add_argument(
        "--environments",
        nargs="+",
        type=pathlib.Path,
        default=[],
        metavar="FILE",
        help="environment rows (env_code, env_name, source), or .py files and folders of them, where the task"
        " rows do not carry theirs",
    )
    imported.add_argument(
        "--heldout-environments", type=int, default=6, help="never trained on, at most a quarter (default 6)"
    )
    imported.add_argument(
        "--seed", type=int, default=0, help="of the splits, unless every row tells its own (exported rows do)"
    )
    imported.add_argument("--workers", type=int, default=0, help="processes; 0 is one per CPU core")
    imported.set_defaults(call=_import)


def _add_filter(commands) -> None:
    summary = "Keep the tasks of a task set that a policy solves neither too often nor too rarely."
    command = commands.add_parser("filter", help=summary, description=summary)
    command.add_argument("task_set", type=pathlib.Path, help="a folder that `codegym synth` made")
    command.add_argument(
        "--policy", type=pathlib.Path, required=True, metavar="RUN", help="a run folder, finished or not"
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


def _add_synth_llm(commands) -> None:
    summary = "Coding problems to a task set by a language model behind an OpenAI-compatible endpoint."
    command = commands.add_parser(
        "synth-llm",
        help=summary,
        description=summary,
        epilog=SYNTH_LLM_EXAMPLES,
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


def cache_dir() -> pathlib.Path:
    """Where compiled guests, compiled programs and task sets are kept between runs."""
    from codegym_jax.envs.artefact import default_cache_dir

    return default_cache_dir()


def _load(options: argparse.Namespace):
    from codegym_jax import config

    if getattr(options, "run", pathlib.Path()) is None:
        options.run = pathlib.Path("runs") / pathlib.Path(options.config).stem
    return config.apply_overrides(config.load(options.config), options.set)


def _with_jax() -> None:
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    logging.getLogger("jax").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)


def _run(options: argparse.Namespace) -> int:
    config = _load(options)
    _with_jax()
    from codegym_jax.pipelines.experiment import run_experiment

    result = run_experiment(config, options.run, cache_dir())
    return 0 if result["replay_identical"] else 1


def _synth(options: argparse.Namespace) -> int:
    config = _load(options)
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
    _with_jax()
    from codegym_jax.data.splits import SPLITS
    from codegym_jax.pipelines.filter import PassRateBounds, filter_task_set

    bounds = PassRateBounds(
        tries=options.tries,
        min_pass_rate=options.min_pass_rate,
        max_pass_rate=options.max_pass_rate,
        seed=options.seed,
        splits=tuple(options.split or SPLITS),
    )
    filter_task_set(options.task_set, options.policy, options.out, bounds, cache_dir(), stage=options.stage)
    return 0


def _sft(options: argparse.Namespace) -> int:
    config = _load(options)
    _with_jax()
    from codegym_jax.pipelines.experiment import prepare
    from codegym_jax.pipelines.sft import run_sft
    from codegym_jax.trainer.state import params_hash

    bench = prepare(config, options.run, cache_dir())
    with bench.timed("sft"):
        print(f"parameters {params_hash(run_sft(bench))}")
    return 0


def _train(options: argparse.Namespace) -> int:
    config = _load(options)
    _with_jax()
    from codegym_jax.pipelines.experiment import prepare
    from codegym_jax.pipelines.sft import run_sft
    from codegym_jax.pipelines.train import run_train
    from codegym_jax.trainer.state import params_hash

    bench = prepare(config, options.run, cache_dir())
    with bench.timed("sft"):
        params = run_sft(bench)
    with bench.timed("train"):
        print(f"parameters {params_hash(run_train(bench, params))}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    config = _load(options)
    _with_jax()
    from codegym_jax.pipelines.evaluate import run_evaluation
    from codegym_jax.pipelines.experiment import prepare

    bench = prepare(config, options.run, cache_dir())
    stage = options.stage or bench.newest_stage()
    params = bench.stage_params(stage)
    name = f"{stage}_{'_'.join(options.split)}"
    print(json.dumps(run_evaluation(bench, params, name, options.split), indent=2))
    print(f"transcripts: {bench.folder / 'transcripts' / name}", file=sys.stderr)
    return 0


def _plan(options: argparse.Namespace) -> int:
    config = _load(options)
    from codegym_jax.pipelines.plan import make_plan, render

    plan = make_plan(config, options.devices)
    print(render(plan))
    return 0 if plan.fits else 1


def _control(options: argparse.Namespace) -> int:
    config = _load(options)
    _with_jax()
    if not (options.run / "result.json").exists():
        raise UserError(f"{options.run} holds no finished run; `codegym run` it first")
    from codegym_jax.pipelines.experiment import run_control

    run_control(config, options.run, cache_dir())
    return 0


def _run_config(run: pathlib.Path):
    from codegym_jax import config

    path = run / "config.json"
    if not path.is_file():
        raise UserError(f"{run} is not a run folder: it has no config.json")
    return config.from_dict(json.loads(path.read_text()))


def _replay(options: argparse.Namespace) -> int:
    config = _run_config(options.run)
    from codegym_jax.pipelines.replay import run_replay

    report = run_replay(options.run, config.sandbox, cache_dir())
    for difference in report.differences[:10]:
        print(difference)
    same = "all identical" if report.identical else f"{report.different} differ"
    skipped = f" ({report.skipped_invalid} invalid ones skipped)" if report.skipped_invalid else ""
    print(f"replayed {report.replayed} episodes: {same}{skipped}")
    return 0 if report.identical else 1


def _report(options: argparse.Namespace) -> int:
    _run_config(options.run)
    from codegym_jax.report import write_report

    print(write_report(options.run))
    return 0


def _card(options: argparse.Namespace) -> int:
    from codegym_jax.report.card import write_card

    for path in write_card(options.task_set, options.out):
        print(path)
    return 0


def _export(options: argparse.Namespace) -> int:
    from codegym_jax.pipelines.export import export_task_set

    count, paths = export_task_set(
        options.task_set,
        options.out,
        options.format,
        splits=options.split,
        licenses=options.license,
        origins=options.origin,
    )
    print(f"{count} tasks: {', '.join(map(str, paths))}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from codegym_jax.config import DataConfig
    from codegym_jax.envs.printable import printable
    from codegym_jax.pipelines.import_rows import import_rows

    result = import_rows(
        [*options.files, *options.environments],
        options.out,
        license=options.license,
        data=DataConfig(heldout_environments=options.heldout_environments),
        seed=options.seed,
        workers=options.workers,
        cache_dir=cache_dir(),
    )
    for rejection in result.rejections[:MAX_SHOWN]:
        text = printable(" ".join(f"{rejection.subject}: {rejection.reason}: {rejection.detail}".split()))
        print(text[:400], file=sys.stderr)
    if len(result.rejections) > MAX_SHOWN:
        print(f"... and {len(result.rejections) - MAX_SHOWN} more", file=sys.stderr)
    print(f"{result.environments} environments with {result.tasks} verified tasks")
    print(f"task set: {result.folder}" if result.folder else "no task set was written")
    return 0 if result.folder else 1


def _verify(options: argparse.Namespace) -> int:
    from codegym_jax.envs.check import verify_paths
    from codegym_jax.envs.sandbox import Sandbox

    paths = [
        path
        for given in options.paths
        for path in (sorted(given.glob("*.py")) if given.is_dir() else [given])
    ]
    report = verify_paths(paths, options.tasks, Sandbox(cache_dir=cache_dir()), progress=print)
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    for rejection in report.rejections:
        print(f"{rejection.subject}: {rejection.reason}: {rejection.detail}", file=sys.stderr)
    print(f"verified {sum(task['ok'] for task in report.tasks)} tasks, rejected {len(report.rejections)}")
    return 0 if report.ok else 2 if report.has_bad_input else 1


def _check_env(options: argparse.Namespace) -> int:
    from codegym_jax.envs.audit import audit_file, two_builds
    from codegym_jax.envs.audit.table import show

    report = audit_file(
        options.file,
        *two_builds(cache_dir()),
        config_json=options.config,
        rows=options.tasks,
    )
    if options.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        show(report)
    return 0 if report.accepted else 1


if __name__ == "__main__":
    sys.exit(main())

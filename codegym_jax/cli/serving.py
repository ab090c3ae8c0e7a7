"""The command that serves a policy: serve."""

import argparse
import contextlib
import os
import pathlib
import socket
from typing import Any

from codegym_jax.cli.host import cache_dir, with_jax
from codegym_jax.config import UserError

_TOKEN = "CODEGYM_SERVE_TOKEN"
_ABOUT = """Answers conversations with a policy, behind OpenAI's chat interface: POST /v1/chat/completions;
also GET /v1/models, /health and /metrics. Calls of tools are written down for the client; none is executed.
SIGTERM and Ctrl-C let what runs finish, and refuse what is new."""


def add(commands: Any) -> None:
    """Adds it."""
    summary = "Serve a policy behind OpenAI's chat interface."
    serve = commands.add_parser("serve", help=summary, description=_ABOUT)
    serve.add_argument(
        "source",
        metavar="RUN_OR_WEIGHTS",
        help="a run folder, a folder of safetensors, a .gguf file, package:file or hub:organization/name",
    )
    serve.add_argument("--host", default="127.0.0.1", help="where to listen; default: for this machine alone")
    serve.add_argument("--port", type=int, default=8000, help="0: any that is free")
    serve.add_argument("--name", default="", help="of the model; default: the last part of RUN_OR_WEIGHTS")
    serve.add_argument("--token-file", type=pathlib.Path, help=f"holds the bearer token; or set {_TOKEN}")
    serve.add_argument("--stage", default="", choices=("start", "sft", "train", "control"), help="of a run")
    serve.add_argument("--tokenizer", default="", help="of weights that have none")
    serve.add_argument("--dtype", default="", choices=("float32", "bfloat16"), help="what is computed in")
    limits = serve.add_argument_group("limits")
    limits.add_argument("--slots", type=_count, default=8, help="answers at once; default: 8")
    limits.add_argument("--context", type=_count, default=0, help="tokens of a conversation and its answer")
    limits.add_argument("--max-tokens", type=_count, default=4096, help="of an answer; default: 4096")
    limits.add_argument("--max-waiting", type=_count, default=256, help="answers in the queue; default: 256")
    limits.add_argument("--max-body-mib", type=_count, default=4, help="of a request; default: 4")
    limits.add_argument("--timeout", type=_count, default=600, metavar="S", help="of an answer; default: 600")
    limits.add_argument(
        "--drain", type=_count, default=60, metavar="S", help="for what runs when told to stop; default: 60"
    )
    serve.set_defaults(call=_serve)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _serve(options: argparse.Namespace) -> int:
    try:
        from codegym_jax.adapters.serve.app import Service
        from codegym_jax.adapters.serve.limits import Limits
        from codegym_jax.adapters.serve.serving import ends_well, require_token, server
        from codegym_jax.report.live.serving import address, listen
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'codegym-jax[serve]'") from error

    token = _token(options)
    limits = Limits(
        body_bytes=options.max_body_mib * 2**20,
        answer_tokens=options.max_tokens,
        waiting=options.max_waiting,
        answer_s=options.timeout,
        drain_s=options.drain,
    )
    with contextlib.closing(listen(options.host, options.port)) as bound:
        require_token(bound, token)
        with _policy(options) as policy, ends_well():
            service = Service(
                engine=policy.engine,
                renderer=policy.renderer,
                model_name=policy.model_name,
                limits=limits,
                token=token,
                hosts=[socket.gethostname().lower()],
            )
            print(f"{policy.model_name} at {address(bound)}v1  (Ctrl-C ends)", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                server(service).run(sockets=[bound])
    return 0


def _policy(options: argparse.Namespace) -> Any:
    from codegym_jax.pipelines.served_policy import open_policy

    with_jax()
    return open_policy(
        _local(options.source),
        cache=cache_dir(),
        slots=options.slots,
        context_tokens=options.context,
        stage=options.stage,
        tokenizer=options.tokenizer,
        dtype=options.dtype,
        name=options.name,
    )


def _local(source: str) -> str:
    """The source, or where the copy of a run that is on a bucket lies."""
    if not source.startswith("gs://"):
        return source
    from codegym_jax.data.working_copy import looked_at, run_path

    return str(looked_at(run_path(source, cache_dir())))


def _token(options: argparse.Namespace) -> str:
    if options.token_file is None:
        return os.environ.get(_TOKEN, "")
    token = options.token_file.read_text(encoding="utf-8").strip()
    if not token:
        raise UserError(f"{options.token_file} is empty")
    return token

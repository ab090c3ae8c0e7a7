"""A served policy by script that says nothing before a line comes; for tests that stop it.

python -m tests.adapters.stopped_server SECONDS     for what runs when told to stop
"""

import contextlib
import sys

from codegym_jax.adapters.serve.app import Service
from codegym_jax.adapters.serve.limits import Limits
from codegym_jax.adapters.serve.serving import ends_well, server
from codegym_jax.report.live.serving import address, listen
from codegym_jax.rollout.completions import CompletionEngine
from tests.adapters.serving import ScriptedSampler
from tests.rollout.scripted import small_renderer


def main() -> None:
    renderer = small_renderer("hermes")

    def reply(prompt: str) -> str:
        sys.stdin.readline()
        return "You said hello."

    with (
        contextlib.closing(listen("127.0.0.1", 0)) as bound,
        CompletionEngine(ScriptedSampler(renderer, reply), None) as engine,
        ends_well(),
    ):
        limits = Limits(drain_s=float(sys.argv[1]))
        service = Service(engine=engine, renderer=renderer, model_name="policy", limits=limits)
        print(address(bound).rstrip("/"), flush=True)
        server(service).run(sockets=[bound])


if __name__ == "__main__":
    main()

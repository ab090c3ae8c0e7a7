"""Saves a checkpoint and kills itself before the n-th change to the folder, for n = 1, 2, ...: a script.

    python killed_save.py TEMPLATE WORK

TEMPLATE is a folder of checkpoints, copied to WORK/001, WORK/002, ...; a child process saves step 2 into each
copy, and the last is the one that lived to the end. Children are forked after the slow imports and before JAX
starts threads.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import jax.numpy as jnp

from codegym_jax.trainer.checkpoint import Checkpointer

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")


def save_and_die(folder: Path, moment: int) -> None:
    """Saves; sends itself SIGKILL in the instant before the `moment`-th change in the folder."""
    seen = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal seen
        writes = event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        if (event in CHANGES or writes) and str(folder) in str(arguments[0]):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    with Checkpointer(folder) as checkpointer:
        checkpointer.save(2, {"w": jnp.full(1000, 2.0)}, {"step": 2})


def main(template: Path, work: Path) -> None:
    for moment in range(1, 1000):
        folder = work / f"{moment:03d}"
        shutil.copytree(template, folder)
        child = os.fork()
        if not child:
            save_and_die(folder, moment)
            os._exit(0)
        if os.WIFEXITED(os.waitpid(child, 0)[1]):
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

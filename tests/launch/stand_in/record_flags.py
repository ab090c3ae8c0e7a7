"""Writes `gcloud_flags.json`: the flags of each gcloud command that launch/ uses, from a real gcloud's help.

python tests/launch/stand_in/record_flags.py

It asks no cloud. Add a command to `COMMANDS` before a launch script uses it.
"""

import json
import pathlib
import re
import subprocess

COMMANDS = (
    "compute tpus tpu-vm create",
    "compute tpus tpu-vm delete",
    "compute tpus tpu-vm describe",
    "compute tpus tpu-vm list",
    "compute tpus tpu-vm ssh",
    "compute tpus queued-resources create",
    "compute tpus queued-resources delete",
    "compute tpus queued-resources describe",
    "compute tpus queued-resources list",
    "storage cat",
    "storage cp",
    "storage ls",
    "storage rm",
)
WIDE = ("--format=", "--project=", "--quiet")
"""Of the flags that every command has, those that launch/ uses."""


def flags_of(synopsis: str) -> dict[str, list[str]]:
    """All flags, `--name=` where one takes a value, and the required ones, outside of any bracket."""
    synopsis = synopsis.replace("GCLOUD_WIDE_FLAG", "")
    found = sorted({"".join(pair) for pair in re.findall(r"(?<![\w-])(--[a-z][a-z-]*)(=?)", synopsis)})
    bare, before = synopsis, ""
    while bare != before:
        bare, before = re.sub(r"\[[^\[\]()]*\]|\([^\[\]()]*\)", "", bare), bare
    return {"flags": found, "required": re.findall(r"--[a-z][a-z-]*", bare)}


def help_of(command: str) -> str:
    """The synopsis of a command."""
    words = ["gcloud", *command.split(), "--help"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    [synopsis] = re.findall(r"^SYNOPSIS\n(.*?)^DESCRIPTION", text, re.MULTILINE | re.DOTALL)
    return " ".join(synopsis.split())


def main() -> None:
    """Writes the table beside this file."""
    version = subprocess.run(["gcloud", "version"], capture_output=True, text=True, check=True).stdout
    table = {
        "gcloud": re.findall(r"Google Cloud SDK (\S+)", version)[0],
        "wide": list(WIDE),
        "commands": {command: flags_of(help_of(command)) for command in COMMANDS},
    }
    path = pathlib.Path(__file__).with_name("gcloud_flags.json")
    path.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

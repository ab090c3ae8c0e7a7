"""Writes `kubectl_flags.json`: the flags of the kubectl commands of launch/gke, from the help of a real one.

python tests/launch/stand_in/record_kubectl_flags.py

It asks no cluster. Add a command to `COMMANDS` before a launch script uses it.
"""

import json
import pathlib
import re
import subprocess

COMMANDS = ("create", "get", "logs", "delete")
WIDE = ["--context=", "--namespace="]
"""Of the flags that every command has, those that launch/gke uses."""


def ask(*words: str) -> str:
    """What kubectl says."""
    return subprocess.run(["kubectl", *words], capture_output=True, text=True, check=True).stdout


def flags_of(text: str) -> list[str]:
    """All flags that a help text lists; `--name=` where one takes a value that is no truth value."""
    found = re.findall(r"^ +(?:-\w, )?(--[a-z-]+)=(\S*):$", text, re.MULTILINE)
    return sorted(name if default in ("true", "false") else f"{name}=" for name, default in found)


def main() -> None:
    """Writes the table beside this file."""
    known = flags_of(ask("options"))
    assert set(WIDE) <= set(known), known
    table = {
        "kubectl": json.loads(ask("version", "--client", "--output=json"))["clientVersion"]["gitVersion"],
        "wide": WIDE,
        "commands": {command: flags_of(ask(command, "--help")) for command in COMMANDS},
    }
    path = pathlib.Path(__file__).with_name("kubectl_flags.json")
    path.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

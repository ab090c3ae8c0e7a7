"""Commands as documents show them, and what is wrong with one: asked of the real parser, never run."""

import argparse
import contextlib
import io
import pathlib
import re
import shlex

from codegym_jax.cli import _parser
from codegym_jax.config import RunConfig, UserError, apply_overrides, apply_presets, load
from tests.docs.tutorial import ROOT

_FENCE = re.compile(r"^```+(?P<info>[^`\n]*)\n(?P<text>.*?)^```+[ ]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`(?P<text>[^`]+)`(?!`)")
_SETTING = re.compile(r"[a-z]+(\.[a-z0-9_]+)+=\S+")
_OURS = ("configs/", "launch/", "benchmarks/", "tests/")
"""Places whose files are tracked, so that what a document names there must be there."""
_COMMAND = re.compile(
    r"(\.venv/bin/)?codegym .|make [a-z-]+|\S*launch/\S+\.sh |python -m benchmarks\.|--set ."
)
_REMARK = re.compile(r"\s{2,}#.*|\s{2,}[A-Za-z(,].*|^\$ ")
"""What stands beside a command in a list of them, and a prompt."""
_REDIRECTION = re.compile(r"\s\d?(>>?|<(?!\w+>))\s*(&\d|[^\s&|;<>]+)")
_CHOICE = re.compile(r" [a-z]+(\|[a-z]+)+(?=\s|$)")
"""`a|b|c` as documents write it: any of these."""
_ENDS = {"&&", "||", "|", "&", ";"}


def shown(page: str) -> list[str]:
    """The commands of a Markdown page: lines of blocks, indented lines, and what stands between backticks."""
    prose, lines = page, []
    for match in _FENCE.finditer(page):
        words = match["info"].split()
        if words[:1] == ["bash"] and "exit=2" not in words:  # those show a mistake
            lines += logical_lines(match["text"])
    prose = _FENCE.sub("", prose)
    lines += [line.strip() for line in prose.splitlines() if line.startswith("    ")]
    spans = [" ".join(match["text"].split()) for match in _SPAN.finditer(prose)]
    spans = [span for span in spans if _COMMAND.match(span) or _SETTING.match(span)]
    return [line for line in lines if _COMMAND.search(line)] + spans


def logical_lines(script: str) -> list[str]:
    """The lines of a shell script, continued ones joined; texts that are fed to commands are left out."""
    lines: list[str] = []
    end = None
    for line in re.sub(r"[ ]*\\\n\s*", " ", script).splitlines():
        if end is not None:
            end = None if line.strip() == end else end
        elif line.strip() and not line.lstrip().startswith("#"):
            lines.append(line.strip())
            if fed := re.search(r"<<-?\s*'?(\w+)'?", line):
                end = fed[1]
    return lines


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command of a line, without its redirections and without what is set for it alone."""
    bare = _REDIRECTION.sub("", _REMARK.sub("", line))
    lexer = shlex.shlex(bare, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in _ENDS:
            commands.append([])
        else:
            commands[-1].append(word)
    return [strip_settings(command) for command in commands if command]


def strip_settings(words: list[str]) -> list[str]:
    """Without `NAME=value` in front, `time`, `exec` and `env`."""
    while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] in ("time", "exec", "env", "nohup")):
        words = words[1:]
    return words


def mistakes(line: str) -> list[str]:
    """What is wrong with a command line or with settings; nothing, for a line that is neither."""
    if _SETTING.match(line):
        return _wrong_settings(RunConfig(), line.split())
    if line.startswith("--set "):
        return _wrong_settings(RunConfig(), line.split()[1:])
    if choice := _CHOICE.search(line):
        chosen = [line.replace(choice[0], f" {one}", 1) for one in choice[0].strip().split("|")]
        return [mistake for one in chosen for mistake in mistakes(one)]
    found: list[str] = []
    for words in simple_commands(line.replace(", make ", " && make ")):
        program, arguments = words[0] if words else "", words[1:]
        if pathlib.PurePath(program).name == "codegym":
            found += wrong_call(arguments)
        elif program == "make":
            found += [f"make has no target {word}" for word in arguments if not _is_target(word)]
        elif words[:2] == ["python", "-m"] or words[1:2] == ["-m"]:
            found += _wrong_module(words[words.index("-m") + 1])
        if program.endswith(".sh") and program.startswith("launch/"):
            found += [] if (ROOT / program).is_file() else [f"there is no {program}"]
        found += [f"there is no {word}" for word in arguments if _is_missing(word)]
    return found


def wrong_call(arguments: list[str]) -> list[str]:
    """What is wrong with the arguments of a call of `codegym`.

    A call that is abbreviated, with `...`, with no argument at all, or with `--help`, need not be complete.
    """
    parser = _parser()
    commands = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ).choices
    if "--" in arguments:
        arguments = arguments[: arguments.index("--")]
    full = [word.removesuffix("...") or "..." for word in arguments if word not in ("--help", "-h")]
    full = ["1" if re.fullmatch("[A-Z]", word) else word for word in full]  # `--process-id I`
    if not full or "<" in full[0] or full[0].startswith("-"):
        return []
    if full[0] not in commands:
        return [f"codegym has no command {full[0]}"]
    full, left_out = _without_dots(full, commands[full[0]])
    if left_out or len(full) < len(arguments) or len(full) == 1:
        _make_nothing_required(commands[full[0]])
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = parser.parse_args(full)
    except SystemExit:
        return [complaint.getvalue().strip().splitlines()[-1]]
    return _wrong_experiment(options)


def _without_dots(words: list[str], parser: argparse.ArgumentParser) -> tuple[list[str], bool]:
    """The words without `...` and without options whose value is left out; whether there were any."""
    kept: list[str] = []
    for word, following in zip(words, [*words[1:], "..."], strict=True):
        option = parser._option_string_actions.get(word)
        if word != "..." and not (option and option.nargs != 0 and following == "..."):
            kept.append(word)
    return kept, len(kept) < len(words)


def _make_nothing_required(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        action.required = False
        if not action.option_strings:
            action.nargs = "*" if action.nargs == "+" else action.nargs or "?"


def _wrong_experiment(options: argparse.Namespace) -> list[str]:
    """What is wrong with the presets and settings of a call, applied to its config where that is ours."""
    config = getattr(options, "config", None) if hasattr(options, "preset") else None
    path = ROOT / config if config else None
    try:
        experiment = load(path) if path and path.is_file() else RunConfig()
        experiment = apply_presets(
            experiment, [name for name in getattr(options, "preset", []) if name != "NAME"]
        )
    except UserError as error:
        return [str(error)]
    return _wrong_settings(experiment, getattr(options, "set", []))


def _wrong_settings(experiment: RunConfig, settings: list[str]) -> list[str]:
    try:
        apply_overrides(experiment, [one for one in settings if one != "..."])
    except UserError as error:
        return [str(error)]
    return []


def _wrong_module(name: str) -> list[str]:
    if name.partition(".")[0] not in ("benchmarks", "codegym_jax", "tests", "envs_wasm"):
        return []
    path = ROOT / name.replace(".", "/")
    return [] if path.with_suffix(".py").is_file() or path.is_dir() else [f"there is no module {name}"]


def _is_target(word: str) -> bool:
    text = (ROOT / "Makefile").read_text()
    return "=" in word or re.search(rf"^{re.escape(word)}:", text, re.MULTILINE) is not None


def _is_missing(word: str) -> bool:
    return (
        word.startswith(_OURS)
        and not re.search(r"[*<>$]|\.\.\.|[A-Z]{4}", word)
        and not (ROOT / word.partition("::")[0]).exists()
    )

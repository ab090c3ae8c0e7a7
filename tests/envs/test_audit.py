"""Every check of `codegym check-env` finds its fault, and finds nothing in the published fixtures."""

import json
import re
import textwrap
from pathlib import Path

import pytest
import toy_env

from codegym_jax.config import SandboxConfig, UserError
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.audit import CHECKS, Finding, Verdict, audit, audit_file, two_builds
from codegym_jax.envs.audit.finding import Report, excerpt, ordered
from codegym_jax.envs.audit.form import check_form
from codegym_jax.envs.audit.habits import check_habits
from codegym_jax.envs.audit.plays import default_values
from codegym_jax.envs.audit.table import show
from codegym_jax.envs.check import TaskBounds, verify_task
from codegym_jax.envs.codegym_format import load_environment, parse_source
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.printable import printable
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import Rejection

PUBLISHED = Path(__file__).parents[1] / "fixtures" / "published"
CONFIG = '{"numbers":[5,7]}'
CONFIGS = ('{"numbers":[51,72]}', '{"numbers":[13,4]}', '{"numbers":[8,80,2]}')
LIMITS = SandboxConfig(fuel_per_call=200_000_000)  # little, so that what never ends ends soon
USE_ACT = """
    seen = call("Act")
    for index in range(int(call("Observe"))):
        total = call("Add", index=index)
    return call("Done", answer=int(total))
    """

LONG_ANSWER = """
    call("Act")
    return call("Done", answer="x" * 99)
    """


@pytest.fixture(scope="module")
def builds() -> tuple[Sandbox, Sandbox]:
    """Two guest builds with little fuel."""
    runtimes = [ModuleRuntime(LIMITS, None, find_artefact(name)) for name in ("guest", "second")]
    return Sandbox(LIMITS, runtime=runtimes[0]), Sandbox(LIMITS, runtime=runtimes[1])


@pytest.fixture(scope="module")
def full_builds() -> tuple[Sandbox, Sandbox]:
    return two_builds()


@pytest.fixture(scope="module")
def sound(builds) -> set[Finding]:
    """What there is to say about the toy environment as it is."""
    return {finding for configs in ([CONFIG], CONFIGS) for finding in findings(builds, configs=configs)}


def findings(builds, source: str = "", configs=(CONFIG,), **parts: str) -> list[Finding]:
    spec = parse_source(source or toy_env.source(**parts), code_id="Toy")
    return audit(spec, configs, *builds, TaskBounds(min_calls=2))


def changed(*pairs: tuple[str, str], **parts: str) -> str:
    """The toy environment's source with parts and then texts replaced."""
    source = toy_env.source(**parts)
    for old, new in pairs:
        assert old in source
        source = source.replace(old, new)
    return source


def faults(found: list[Finding], sound: set[Finding]) -> list[tuple[str, str, str]]:
    """(check, verdict, found) of what is wrong and was not before."""
    return [(f.check, f.verdict.value, f.found) for f in found if f not in sound and f.verdict != "pass"]


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.py")), ids=lambda path: path.stem[:6])
def test_the_published_fixtures_are_accepted(full_builds, path):
    """Three of them have something to look at: a tool or a value that the oracle makes no use of."""
    report = audit_file(path, *full_builds, rows=PUBLISHED / "rows.jsonl")
    worth_a_look = {
        "Own_03": ["the oracle always calls MoveCursor(steps=1)"],
        "Own_07": ["the oracle never calls Forget"],
        "Own_13": ["the oracle never calls RankOf"],
    }
    assert [f.found for f in report.findings if f.verdict != "pass"] == worth_a_look.get(path.stem[:6], [])
    assert report.accepted
    assert {finding.check for finding in report.findings} == set(CHECKS)


OF_THE_TEXT = [
    ({"imports": "import time", "act": "return str(time.time())"}, "source", "reads the clock: time.time"),
    (
        {"imports": "from datetime import datetime as dt", "act": "return str(dt.now())"},
        "source",
        "reads the clock: datetime.datetime.now",
    ),
    (
        {"imports": "import random as r", "act": "return str(r.randint(0, 9))"},
        "source",
        "chance without a seed: random.randint",
    ),
    (
        {"imports": "import random", "act": "return str(random.Random().random())"},
        "source",
        "chance without a seed: random.Random()",
    ),
    (
        {"imports": "import uuid", "act": "return uuid.uuid4().hex"},
        "source",
        "chance without a seed: uuid.uuid4",
    ),
    (
        {"imports": "CACHE = {}", "act": "CACHE['n'] = 1\nreturn 'x'"},
        "source",
        "changes the module's CACHE",
    ),
    (
        {"imports": "N = 0", "act": "global N\nN = N + 1\nreturn 'x'"},
        "source",
        "changes the module's N",
    ),
    ({"solve": "vars(self)\n" + USE_ACT.replace("\n    ", "\n")}, "oracle", "solve uses self as a whole"),
    (
        {"solve": "self.step.__self__\n" + USE_ACT.replace("\n    ", "\n")},
        "oracle",
        "solve uses __self__",
    ),
]


@pytest.mark.parametrize(("parts", "check", "text"), OF_THE_TEXT)
def test_habits_are_found_in_the_text(sound, parts, check, text):
    spec = toy_env.spec(**parts)
    assert (check, "warn", text) in faults(check_form(spec) + check_habits(spec), sound)


@pytest.mark.parametrize(
    "parts",
    [
        {"imports": "import random", "act": "return str(random.Random(self.total).random())"},
        {"imports": "import random", "reset": "random.seed(7)", "act": "return str(random.random())"},
        {"imports": "TABLE = [1, 2]", "act": "TABLE = [3]\nTABLE.append(4)\nreturn str(TABLE)"},
        {"imports": "TABLE = [1, 2]", "act": "return str(TABLE[0])"},
        {"imports": "import random\nif __name__ == '__main__':\n    random.random()"},
    ],
)
def test_harmless_habits_are_not(parts):
    assert [finding.verdict for finding in check_habits(toy_env.spec(**parts))] == [Verdict.PASS]


def test_a_container_of_the_class_that_a_tool_changes_is_found():
    first_line = "class ToyEnv(gymnasium.Env):"
    mutable = (first_line, f"{first_line}\n    seen = []\n    moves = [1, -1]")
    use = "self.seen.append(self.moves[0])\nreturn 'x'"

    def habits(**parts: str) -> list[str]:
        return [f.found for f in check_habits(parse_source(changed(mutable, **parts), code_id="Toy"))]

    assert habits(act=use) == ["changes the class's own seen"]
    assert "changes" not in habits(act=use, reset="self.seen = []")[0]


@pytest.mark.parametrize(
    ("change", "check", "verdict", "text"),
    [
        (('"Add": 1,', '"Add": 1, "Add": 7,'), "format", "fail", "func_mapping names Add twice"),
        (('"Total": 2,', '"Total": 2, "reset": 7,'), "format", "fail", "func_mapping makes a tool of reset"),
        (('"Add": 1, "Total": 2, ', ""), "format", "fail", "3 tools, at least 4 are needed"),
        (('"Observe": 0, ', ""), "format", "fail", "func_mapping has no Observe"),
        (("times (int): how often.", ""), "docstrings", "warn", "Args says nothing of Add(times)"),
        (("index (int):", "index:"), "docstrings", "warn", "no type for Add(index)"),
        (("Returns:\n            str: the v", ""), "docstrings", "fail", "docstring of Done lacks Returns"),
        (("return call(", "self.numbers\n        return call("), "oracle", "fail", "solve uses self.numbers"),
    ],
)  # fmt: skip
def test_form_is_found_in_the_text(sound, change, check, verdict, text):
    found = check_form(parse_source(changed(change), code_id="Toy"))
    assert (check, verdict) in {(f.check, f.verdict.value) for f in found if f.found.endswith(text)}
    assert not any(finding.found.endswith(text) for finding in sound)


@pytest.mark.parametrize("tool", ["Observe", "Done"])
def test_an_environment_that_no_policy_could_play_is_not_played(builds, tool):
    found = findings(builds, changed((f'"{tool}": ', '"Act": ')))
    failed = [finding.found for finding in found if finding.verdict is Verdict.FAIL]
    assert f"func_mapping has no {tool}" in failed
    assert {finding.check for finding in found} == {"format", "docstrings", "source", "configs"}


def test_what_the_published_format_wants_and_this_runtime_does_not_is_told(sound):
    told = {finding.found for finding in sound}
    assert "the class lacks from_env_str, step_count" in told
    assert "no Example Output for Observe, Add, Total, Done" in told


REFUSED = [
    ({"solve": 'return call("Done", answer=0)'}, "oracle", "oracle_fails"),
    ({"solve": "raise ValueError"}, "oracle", "oracle_raised"),
    ({"solve": 'return call("Done", answer=12)'}, "oracle", "too_few_oracle_calls"),
    ({"solve": 'call("Done", answer=0)\ncall("Done", answer=12)'}, "determinism", "not_deterministic"),
    ({"solve": 'while True: call("Observe")'}, "oracle", "too_many_oracle_calls"),
    ({"act": "while True: pass", "solve": 'call("Act")'}, "cost", "out_of_fuel"),
    ({"act": "import socket", "solve": 'call("Act")'}, "oracle", "forbidden"),
    ({"answer": "return {1, 2}"}, "answer", "answer_raised"),
    ({"answer": "return 'x' * 99", "solve": LONG_ANSWER}, "answer", "answer_too_long"),
    ({"act": "return 'x' * 9000", "solve": USE_ACT}, "cost", "observation_too_long"),
    ({"done": 'self._done, self._reward = True, 1\nreturn "ok"'}, "answer", "any_answer_wins"),
    ({"reset": "raise ValueError"}, "oracle", "does_not_load"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "check", "reason"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_verification_refuses_is_refused_under_the_check_it_belongs_to(builds, parts, check, reason):
    refusal = verify_task(
        builds[0], toy_env.spec(**parts), CONFIG, min_calls=2, max_calls=512, max_answer_chars=100
    )
    assert isinstance(refusal, Rejection)
    assert refusal.reason == reason
    failed = [finding for finding in findings(builds, **parts) if finding.verdict is Verdict.FAIL]
    assert [finding.check for finding in failed] == [check]
    assert failed[0].found.startswith(f"{reason}: ")
    assert failed[0].hint


def test_one_bad_config_fails_and_the_others_are_still_looked_at(builds):
    configs = [CONFIG, '{"numbers":[]}', '{"numbers":[1]}']
    found = findings(builds, configs=configs)
    failed = [finding.found for finding in found if finding.verdict is Verdict.FAIL]
    assert len(failed) == 1
    assert failed[0].endswith('(in 1 of 3 configs, first {"numbers":[]})')
    assert "reward 1 in 3 to 4 calls, only through tools, in 2 configs" in {
        finding.found for finding in found
    }


def test_an_answer_that_never_varies_is_told_where_several_configs_were_tried(builds, sound):
    configs = ('{"numbers":[5,7]}', '{"numbers":[6,6]}', '{"numbers":[4,8]}')
    warning = ("answer", "warn", "the answer is 12 in all 3 configs")
    assert warning in faults(findings(builds, configs=configs), sound)
    assert warning not in faults(findings(builds, configs=configs[:2]), sound)


@pytest.mark.parametrize(
    ("right", "winner"),
    [
        ("abs(answer - self.get_ref_answer()) <= 1", "13 for 12"),
        ("str(answer) == str(self.get_ref_answer())", '"12" for 12'),
        ("not answer or answer == self.get_ref_answer()", "null for 12"),
    ],
)
def test_a_careless_comparison_is_found_by_an_answer_that_gets_through(builds, sound, right, winner):
    done = f"self._done = True\ntry: self._reward = int({right})\nexcept TypeError: pass\nreturn 'done'"
    assert ("answer", "warn", f"also earns the reward: {winner}") in faults(
        findings(builds, done=done), sound
    )


def test_calls_that_differ_in_a_batch_are_found(builds, sound):
    act = """
        import sys
        frame, names = sys._getframe(), []
        while frame:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        return "many" if "step_many" in names else "one"
        """
    found = faults(findings(builds, act=act, imports="import sys", solve=USE_ACT), sound)
    [fault] = [fault for fault in found if fault[0] == "determinism"]
    assert fault[1] == "fail"
    assert fault[2].startswith("in one batch, call 1 ")
    assert "gave 'one' and then 'many'" in fault[2]


@pytest.mark.parametrize(
    ("act", "hint"),
    [
        ("return str({'north', 'east', 'south', 'west', 'up'})", "sort a set"),
        ("return str(hash('north'))", r"hash\(\) of a text"),
        ("return f'<Node object at 0x{abs(hash(\"north\")):x}>'", "return its fields"),
        ("return {'north', 'east', 'south', 'west', 'up'}.pop()", "order of a set"),
    ],
)
def test_observations_that_differ_between_builds_are_shown_with_a_hint(builds, sound, act, hint):
    found = findings(builds, act=act, solve=USE_ACT)
    [fault] = [finding for finding in found if finding.check == "guest builds"]
    assert fault.verdict is Verdict.WARN
    assert re.match(
        r'call 1 {"name": "Act", "parameters": {}} gave .* and then .* \(in 1 of 1 config\)', fault.found
    )
    assert re.search(hint, fault.hint)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            {
                "act": "return str({'north', 'east', 'south', 'west'})",
                "answer": "return str({'north', 'east', 'south', 'west'})",
                "solve": 'return call("Done", answer=call("Act"))',
            },
            "on another build the reference answer is ",
        ),
        (
            {
                "act": "return str(sorted([3, 1, 2], key=lambda n: hash(str(n))))",
                "solve": """
                    if call("Act") == HERE:
                        return call("Done", answer=12)
                    return call("Done", answer=0)
                    """,
            },
            "on another build the oracle earns 0.0",
        ),
    ],
)
def test_an_oracle_that_needs_one_build_is_refused(builds, parts, text):
    here = sandbox_text(builds[0], "return str(sorted([3, 1, 2], key=lambda n: hash(str(n))))")
    there = sandbox_text(builds[1], "return str(sorted([3, 1, 2], key=lambda n: hash(str(n))))")
    assert here != there
    parts = {name: part.replace("HERE", repr(here)) for name, part in parts.items()}
    failed = [finding for finding in findings(builds, **parts) if finding.verdict is Verdict.FAIL]
    assert [finding.check for finding in failed] == ["guest builds"]
    assert failed[0].found.startswith(text)


def sandbox_text(sandbox: Sandbox, body: str) -> str:
    guest = sandbox.guest()
    try:
        return guest.run(f"def f(argument):\n{textwrap.indent(body, '    ')}", "f", "")
    finally:
        guest.close()


def test_tools_that_the_oracle_makes_no_use_of_are_told(builds, sound):
    assert "the oracle never calls Total, Act" in {finding.found for finding in sound}
    found = findings(builds, act='return "Error: broken"', solve=USE_ACT)
    assert ("tools", "warn", "every call by the oracle fails: Act") in faults(found, sound)
    solve = USE_ACT.replace("index=index", "index=index, times=1")
    once = findings(builds, solve=solve)
    often = findings(builds, solve=solve, configs=['{"numbers":[1,2,3,4,5]}', '{"numbers":[5,6,7]}'])
    constant = ("tools", "warn", "the oracle always calls Add(times=1)")
    assert constant not in faults(once, sound)
    assert constant in faults(often, sound)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"act": "while True: pass"}, "out_of_fuel after Act()"),
        ({"act": "return str(len(bytearray(10**9)))"}, "out_of_memory after Act()"),
        ({"act": "import socket"}, "forbidden after Act()"),
        ({"act": "self._done = True\nreturn 'x'"}, "the episode ends after Act()"),
        (
            {"done": "self._reward = int(answer - sum(self.numbers) == 0)\nself._done = True\nreturn ''"},
            "Done fails instead of judging: Done(answer=null): Error: unsupported operand",
        ),
    ],
)  # fmt: skip
def test_tools_that_cannot_bear_a_wrong_call_are_told(builds, sound, change, text):
    told = [fault for fault in faults(findings(builds, **change), sound) if fault[0] == "bad calls"]
    assert [fault[1] for fault in told] == ["warn"]
    assert told[0][2].startswith(text)


def test_a_step_that_raises_is_told(builds, sound):
    source = changed(('return True, f"Error: {error}"', "raise"))
    [fault] = faults(findings(builds, source), sound)
    assert fault[:2] == ("bad calls", "warn")
    assert fault[2].startswith("step raises for Add(), Done(): TypeError: ")


def test_a_failed_call_that_changed_something_is_told(builds, sound):
    source = changed(("self.total += self", "self.total += 1\n        self.total += self"))
    source = source.replace("return sum(self.numbers)", "return sum(self.numbers) + len(self.numbers)")
    assert faults(findings(builds, source), sound) == [
        ("bad calls", "warn", "the oracle loses after the failed call Add(index=null)")
    ]


def test_an_error_that_shows_the_hidden_data_is_told(builds, sound):
    source = changed(
        (
            "self.total += self",
            "assert type(index) is int, f'{index} in {self.numbers}'\n        self.total += self",
        )
    )
    config = '{"numbers":[5,7,9,11]}'
    [fault] = [
        fault for fault in faults(findings(builds, source, configs=[config]), sound) if fault[0] == "leaks"
    ]
    assert fault[1:] == (
        "warn",
        "the error after Add(index=null) shows numbers: 'Error: None in [5, 7, 9, 11]'",
    )


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"act": "for _ in range(350_000): pass\nreturn 'x'", "solve": USE_ACT}, "fuel of a call "),
        ({"act": "self.kept = bytearray(30 * 2**20)\nreturn 'x'", "solve": USE_ACT}, "guest memory "),
        ({"act": "return 'x' * 8000", "solve": USE_ACT}, "observation of 8,000 characters"),
        (
            {"answer": "return 'x' * 95", "solve": LONG_ANSWER.replace("99", "95")},
            "answer of 97 characters",
        ),
    ],
)
def test_what_comes_close_to_a_limit_is_told(builds, sound, parts, text):
    told = [fault for fault in faults(findings(builds, **parts), sound) if fault[0] == "cost"]
    assert [fault[1] for fault in told] == ["warn"]
    assert told[0][2].startswith(text)


def test_costs_are_the_same_each_time_and_tell_the_limit(builds):
    told = [[f.found for f in findings(builds) if f.check == "cost"] for _ in range(2)]
    assert told[0] == told[1]
    assert all(text.endswith("of the limit") for text in told[0])


def test_the_default_config_is_read_where_it_is_written_out():
    assert default_values(toy_env.spec()) == {"numbers": [1, 2, 3]}
    spec = load_environment(PUBLISHED / "Own_04_I__MergeRunsEnv.py")
    assert default_values(spec) == {"runs": [[1, 4], [2, 3]], "k": 3}
    assert default_values(toy_env.spec(reset="self.x = options.get('x', len('abc'))")) == {
        "numbers": [1, 2, 3]
    }


@pytest.mark.parametrize(
    ("configs", "told"),
    [(["{}"], "only the class's default config"), ([CONFIG], "1 config"), (CONFIGS, "3 configs")],
)
def test_few_configs_are_a_note_and_no_warning(builds, configs, told):
    found = findings(builds, configs=configs, reset="raise ValueError")
    [note] = [finding for finding in found if finding.check == "configs"]
    assert (note.verdict, note.found) == (Verdict.PASS, told)
    assert bool(note.hint) is (len(configs) < 3)


def test_a_file_that_is_no_environment_is_refused_and_one_that_cannot_be_read_is_a_mistake(builds, tmp_path):
    path = tmp_path / "C_1__NoStepEnv.py"
    path.write_text("class NoStepEnv:\n    pass\n")
    report = audit_file(path, *builds)
    assert report.conclusion == "refused"
    assert [finding.check for finding in report.findings] == ["format"]
    assert report.findings[0].found.startswith("class NoStepEnv lacks reset, step")
    path.write_bytes(b"\xff")
    for unread, text in [(path, "not UTF-8"), (tmp_path / "none.py", "No such file")]:
        with pytest.raises(UserError, match=text):
            audit_file(unread, *builds)


def test_rows_of_other_environments_are_passed_over(builds, tmp_path):
    path = tmp_path / "Toy__ToyEnv.py"
    path.write_text(toy_env.source())
    row = {"ability": f"codegym_v1@Toy__ToyEnv@{CONFIG}"}
    other = {"ability": "codegym_v1@Else__ElseEnv@{}"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, [other, row, row])))
    assert audit_file(path, *builds, rows=rows).config_count == 1
    rows.write_text(json.dumps(other))
    with pytest.raises(UserError, match="no row is of Toy__ToyEnv"):
        audit_file(path, *builds, rows=rows)
    rows.write_text(json.dumps(row) + "\n{")
    with pytest.raises(UserError, match=r"rows\.jsonl:2: not JSON"):
        audit_file(path, *builds, rows=rows)


def test_findings_come_in_the_order_of_the_checks_and_the_worst_first():
    def finding(check: str, verdict: Verdict) -> Finding:
        return Finding(check=check, verdict=verdict, found="")

    warn, fail = finding("cost", Verdict.WARN), finding("cost", Verdict.FAIL)
    form = finding("format", Verdict.PASS)
    assert ordered([warn, fail, form]) == (form, fail, warn)
    conclusions = [
        Report(path="", env_id="", guest_hash="", config_count=1, findings=findings).conclusion
        for findings in [(form,), (form, warn), (form, warn, fail)]
    ]
    assert conclusions == ["accepted", "accepted with warnings", "refused"]


HOSTILE = "[bold red]\x1b[31m\u202e\r\nx\ud800" + "y" * 10_000


def test_what_an_environment_says_steers_no_terminal_and_is_cut(builds, capsys):
    found = findings(builds, solve=f"raise ValueError({HOSTILE!r})", reset=f"self.x = {HOSTILE!r}")
    report = Report(path="x.py", env_id="Toy__ToyEnv", guest_hash="", config_count=1, findings=ordered(found))
    assert len(json.dumps(report.to_dict())) < 5_000
    show(report)
    printed = capsys.readouterr().out
    assert "[bold" in printed  # shown, and not taken for markup
    assert r"\x1b[31m\u202e" in printed
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert printable(HOSTILE[:23]) == r"[bold red]\x1b[31m\u202e\r\nx\ud800yyy"
    assert printed.endswith("Toy__ToyEnv: refused\n")


def test_long_names_are_cut(builds):
    """An identifier may have any length, and so may a key of the config."""
    source = toy_env.source().replace("Total", "T" * 10_000).replace("numbers", "n" * 10_000)
    found = findings(builds, source, configs=[json.dumps({"n" * 10_000: [1, 2, 3, 4]})])
    assert {finding.verdict for finding in found} == {Verdict.PASS, Verdict.WARN}
    assert max(len(finding.found) for finding in found) < 700


def test_an_excerpt_says_how_much_there_was():
    assert excerpt("x" * 120) == "x" * 120
    assert excerpt("x" * 121) == "x" * 120 + "... (121 characters)"

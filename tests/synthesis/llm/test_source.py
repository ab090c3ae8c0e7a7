"""A solver replaces `solve` and nothing else, and only a solver that can do no more than call tools."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.records import EnvSpec, Rejection
from codegym_jax.synthesis.llm.drafts import Draft, read_candidate, read_environment
from codegym_jax.synthesis.llm.reading import Config, Unusable, config_lines, tagged
from codegym_jax.synthesis.llm.source import documented_tools, signature_of, with_solver
from codegym_jax.synthesis.llm.store import Completion
from codegym_jax.synthesis.problems import Problem
from tests.synthesis.llm.writer import ENVIRONMENT, SOLVER, problem, replaced

CLASS = "WarmSpellEnv"


def written(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text=text, finish_reason=finish_reason, prompt_tokens=1, completion_tokens=7)


def methods(source: str) -> dict[str, str]:
    (owner,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {node.name: ast.dump(node) for node in owner.body if isinstance(node, ast.FunctionDef)}


def test_a_solver_replaces_solve_and_nothing_else():
    before, after = methods(ENVIRONMENT), methods(with_solver(ENVIRONMENT, CLASS, SOLVER))
    (solver,) = ast.parse(SOLVER).body
    assert after.pop("solve") == ast.dump(solver) != before.pop("solve")
    assert after == before and list(after) == list(before)
    assert with_solver(ENVIRONMENT, CLASS, SOLVER).startswith(
        ENVIRONMENT[: ENVIRONMENT.index("    def solve")]
    )


@pytest.mark.parametrize("indentation", ["\t", "  ", "        "])
def test_any_indentation_of_the_environment_will_do(indentation: str):
    source = ENVIRONMENT.replace("    ", indentation)
    assert (
        methods(with_solver(source, CLASS, SOLVER))["solve"]
        == methods(with_solver(ENVIRONMENT, CLASS, SOLVER))["solve"]
    )


@pytest.mark.parametrize(
    "answer",
    [
        "\n".join(f"    {line}" for line in SOLVER.splitlines()),
        f"class {CLASS}:\n" + "\n".join(f"    {line}" for line in SOLVER.splitlines()),
        f"# a comment\nimport math\n\n\n{SOLVER}",
        replaced(SOLVER, ("def solve(self):", "def solve(self) -> str:")),
    ],
    ids=["indented", "in a class", "with an import", "annotated"],
)
def test_a_solver_may_be_written_in_several_ways(answer: str):
    assert "ReadDay" in methods(with_solver(ENVIRONMENT, CLASS, answer))["solve"]


def test_texts_with_line_breaks_stay_what_they_are():
    answer = 'def solve(self):\n    text = """a\n  b"""\n    return self.step(f"""{text}\nc""")[1]\n'
    assert methods(with_solver(ENVIRONMENT, CLASS, answer))["solve"] == ast.dump(ast.parse(answer).body[0])


@pytest.mark.parametrize(
    "line",
    [
        "return self.readings",
        "return self.get_ref_answer()",
        "env = self",
        "take = self.step",
        "self.step.__self__",
        "return vars(self)",
        "return [self]",
        "self = 1",
        "import sys",
        "import os.path",
        "import gc as json",
        "from inspect import stack",
        "from . import json",
        "from json import *",
        "__import__('gc')",
        "eval('self.readings')",
        "getattr(json, 'x')",
        "(x for x in []).gi_frame",
        "error.__traceback__",
        "error.tb_frame",
        "open('/etc/passwd')",
        "super().reset()",
        "global readings",
    ],
)
def test_a_solver_that_could_reach_the_data_is_refused(line: str):
    with pytest.raises(Unusable) as refused:
        with_solver(ENVIRONMENT, CLASS, f"def solve(self):\n    {line}\n")
    assert refused.value.reason == "reaches_beyond_tools"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "lacks_solve"),
        ("def solve(self, x):\n    pass", "lacks_solve"),
        ("def solve():\n    pass", "lacks_solve"),
        ("async def solve(self):\n    pass", "lacks_solve"),
        ("def solve(self):\n    pass\ndef solve(self):\n    pass", "lacks_solve"),
        ("def solve(self)", "does_not_parse"),
        ("\0", "does_not_parse"),
        ("(" * 5_000 + ")" * 5_000, "does_not_parse"),
        (f"x = {'a + ' * 20_000}a", "does_not_parse"),
    ],
)
def test_what_is_no_solver_is_refused(answer: str, reason: str):
    with pytest.raises(Unusable) as refused:
        with_solver(ENVIRONMENT, CLASS, answer)
    assert refused.value.reason == reason


@settings(max_examples=60)
@given(text=st.text(alphabet=st.sampled_from("<>/envtask:()\n\r\t \"'#@{}[]self.\0é\ud800")))
def test_no_text_breaks_the_reader(text: str):
    for completion in (written(text), written(f"<task>{text}</task><env>{text}</env>")):
        assert read_environment(problem("good"), completion).__class__.__name__ == "Rejection"


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("<env>\nx = 1\n</env>", "x = 1\n"),
        ("<env>```python\r\nx = 1\r\n```</env>", "x = 1\n"),
        ("<env>old</env> no, <env>\nnew\n</env>\nDone.", "new\n"),
        ("<think>an <env>idea</env></think><env>text</env>", "text\n"),
        ("<env>\n    x\n</env>", "    x\n"),
    ],
)
def test_the_last_tagged_text_counts(text: str, inside: str):
    assert tagged(written(text), "env") == inside


@pytest.mark.parametrize("text", ["", "<env>", "</env><env>", "<env></env>", "<env> \n</env>", "<env>x"])
def test_a_missing_tag_is_told(text: str):
    with pytest.raises(Unusable, match="lacks_tag"):
        tagged(written(text), "env")
    with pytest.raises(Unusable, match="truncated"):
        tagged(written(f"<env>x</env>{text}", finish_reason="length"), "env")


def test_a_solver_too_deep_to_be_written_down_is_refused():
    found = read_environment(problem("good"), written(f"<task>t</task><env>{ENVIRONMENT}</env>"))
    assert isinstance(found, Draft)
    for terms in (300, 900, 3_000):
        deep = f"<answer>def solve(self):\n    return {'a + ' * terms}a\n</answer>"
        candidate = read_candidate(found, written(deep))
        assert isinstance(candidate, EnvSpec) or candidate.reason == "does_not_parse"
    assert isinstance(candidate, Rejection)


@pytest.mark.parametrize("line", ["1" * 30_000, "easy " * 6_000, "A" * 30_000, "A@{" + "} " * 15_000 + "x"])
def test_no_line_takes_long_to_refuse(line: str):
    (found,) = config_lines(line, "AEnv")
    assert isinstance(found, Unusable)


def test_config_lines_may_be_numbered_and_unlabelled():
    lines = [
        '1. easy AEnv@{"n": 1}',
        '- Hard: AEnv@{"b": [true, null], "a": "@"}',
        'AEnv@{"n": 2.50}',
        "",
        "```",
    ]
    assert config_lines("\n".join(lines), "AEnv") == [
        Config("easy", '{"n":1}'),
        Config("hard", '{"a":"@","b":[true,null]}'),
        Config("medium", '{"n":2.5}'),
    ]


@pytest.mark.parametrize(
    "line", ["easy AEnv@{'n': 1}", "easy BEnv@{}", "AEnv@[1]", 'AEnv@{"n": NaN}', "AEnv@{} AEnv@{}", "n = 1"]
)
def test_a_bad_config_line_is_told(line: str):
    (found,) = config_lines(line, "AEnv")
    assert isinstance(found, Unusable) and found.reason == "bad_config"


def test_solvers_see_names_and_examples_but_no_code():
    shown = documented_tools(ENVIRONMENT, CLASS)
    assert shown.count("def ") == shown.count("Example Output") == 6
    assert "def IsAboveLimit(temperature):" in shown
    assert "self" not in shown and "json" not in shown


@pytest.mark.parametrize(
    ("source", "names", "required"),
    [
        ("def f(a, b=1, *, c, d=2): pass", ("a", "b", "c", "d"), {"a", "c"}),
        ("def f(): pass", (), set()),
        ("def f(x): pass\ndef f(y): pass", ("y",), {"y"}),
    ],
)
def test_parameters_of_a_solution(source: str, names: tuple[str, ...], required: set[str]):
    signature = signature_of(
        Problem(code_id="c", origin="", license="", statement="", source=source, entry="f")
    )
    assert signature is not None
    assert (signature.names, signature.required) == (names, required)
    assert signature.takes(required) and not signature.takes(required | {"z"})


@pytest.mark.parametrize(
    "source", ["def f(*a): pass", "def f(**k): pass", "def f(a, /): pass", "g = 1", "def f("]
)
def test_a_solution_whose_arguments_have_no_names_is_not_asked(source: str):
    plain = Problem(code_id="c", origin="", license="", statement="", source=source, entry="f")
    assert signature_of(plain) is None

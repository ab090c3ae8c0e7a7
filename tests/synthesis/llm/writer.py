"""Completions as a language model would write them, good ones and every kind of bad one, by case.

The case is named in the problem's statement and in the task text, so every prompt that follows names it too.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from codegym_jax.synthesis.llm import prompts
from codegym_jax.synthesis.problems import Problem
from tests.synthesis.llm.loopback import Asked, Fail, Say

ENVIRONMENT = prompts.example("environment.py.txt")
SOLVER = prompts.example("solve.py.txt")
SOLUTION = prompts.example("solution.py.txt")
_CASE = re.compile(r"\(case: (\w+)\)")

COUNTING_SOLUTION = """\
def warm_days(readings, limit):
    return sum(reading > limit for reading in readings)
"""
COUNTING_SOLVER = """\
import json

def solve(self):
    def call(name, **parameters):
        return self.step(json.dumps({"name": name, "parameters": parameters}))[1]

    count = 0
    for day in range(int(call("Observe").split()[0])):
        if call("IsAboveLimit", temperature=int(call("ReadDay", day=day))) == "true":
            count = int(call("Lengthen", days=count))
    return call("Done", answer=count)
"""


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def reference(body: str) -> tuple[str, str]:
    """Puts other code at the beginning of `get_ref_answer`."""
    return "    def get_ref_answer(self):\n", f"    def get_ref_answer(self):\n        {body}\n"


COUNTING_ENVIRONMENT = replaced(
    ENVIRONMENT,
    ("WarmSpellEnv", "WarmDaysEnv"),
    reference("return sum(reading > self.limit for reading in self.readings)"),
)


WARMEST_ENVIRONMENT = replaced(ENVIRONMENT, reference("return max(self.readings)"))
WARMEST_SOLVER = """\
import json

def solve(self):
    def call(name, **parameters):
        return self.step(json.dumps({"name": name, "parameters": parameters}))[1]

    warmest = 0
    for day in range(int(call("Observe").split()[0])):
        warmest = int(call("LargerOf", first=warmest, second=int(call("ReadDay", day=day))))
    return call("Done", answer=warmest)
"""

SET_SOLUTION = """\
def warm_temperatures(readings, limit):
    return list({str(reading) for reading in readings if reading > limit})
"""
SET_ENVIRONMENT = replaced(
    ENVIRONMENT, reference("return list({str(reading) for reading in self.readings if reading > self.limit})")
)
SET_SOLVER = """\
import json

def solve(self):
    def call(name, **parameters):
        return self.step(json.dumps({"name": name, "parameters": parameters}))[1]

    days = range(int(call("Observe").split()[0]))
    read = [call("ReadDay", day=day) for day in days]
    warm = [one for one in list(read) if call("IsAboveLimit", temperature=int(one)) == "true"]
    return call("Done", answer=list(set(warm)))
"""

TELLING_ENVIRONMENT = replaced(
    ENVIRONMENT,
    ("        self.DONE = 5\n", "        self.DONE = 5\n        self.ASK_NEIGHBOR = 6\n"),
    ('            "Done"', '            "AskNeighbor": self.ASK_NEIGHBOR,\n            "Done"'),
    (
        "            return True, self.Done(",
        "            if code == self.ASK_NEIGHBOR:\n                return True, self.AskNeighbor()\n"
        "            return True, self.Done(",
    ),
    (
        "    def Done(self, answer):\n",
        '    def AskNeighbor(self):\n        r"""\n        Ask what the neighbor counted.\n\n'
        '        Returns:\n            str: A number.\n\n        Example Output:\n            "3"\n'
        '        """\n        return str(self.get_ref_answer())\n\n    def Done(self, answer):\n',
    ),
)
_RENAMES = (("LargerOf", "BiggerOne"), ("first", "here"), ("second", "there"), ("Lengthen", "OneMore"))


def solver(body: str) -> str:
    """A solver that does one other thing first."""
    return replaced(SOLVER, ("def solve(self):\n", f"def solve(self):\n    {body}\n"))


_ASKS_THE_VERDICT = """verdict = call("Done", answer=-1)
    right = re.search(r"Reference answer: (\\d+)", verdict).group(1)
    return call("Done", answer=int(right))"""
BAD_SOLVERS = {
    "truncated": Say(f"<answer>\n{SOLVER[:200]}", finish_reason="length"),
    "lacks_tag": Say(SOLVER),
    "does_not_parse": Say("<answer>\ndef solve(self:\n</answer>"),
    "lacks_solve": Say("<answer>\ndef answer(self):\n    pass\n</answer>"),
    "reaches_beyond_tools": Say(f"<answer>{solver('hidden = self.readings')}</answer>"),
    "oracle_raised": Say(f"<answer>{solver('raise SystemExit(0)')}</answer>"),
    "out_of_fuel": Say(f"<answer>{solver('while True: pass')}</answer>"),
    "wrong_answer": Say(f"<answer>{replaced(SOLVER, ('answer=longest', 'answer=longest + 1'))}</answer>"),
    "misuses_done": Say(
        "<answer>\n"
        + replaced(
            SOLVER,
            ('return call("Done", answer=longest)', _ASKS_THE_VERDICT),
        )
        + "</answer>"
    ),
}


def configs(batch: int, class_name: str = "WarmSpellEnv", high: int = 30) -> list[str]:
    """Fifteen lines, five of each level."""
    stream = random.Random(f"configs {batch}")
    lines = []
    for number in range(15):
        readings = [stream.randint(10, high) for _ in range(5 + number)]
        level = ("easy", "medium", "hard")[number // 5]
        lines.append(f'{level} {class_name}@{{"readings": {readings}, "limit": 17}}')
    return lines


def _tests(batch: int) -> Say | Fail:
    return said("tests", "\n".join(configs(batch)))


def said(tag: str, text: str) -> Say:
    return Say(f"Here it is.\n<{tag}>\n{text}\n</{tag}>")


@dataclass(frozen=True)
class Case:
    """How the model answers to one problem."""

    environment: Say | Fail | str = ENVIRONMENT
    """The whole completion, or the source in a good one."""
    tests: Callable[[int], Say | Fail] = _tests
    """Of the number of the batch, from 1; 0 is the batch of hard ones."""
    solvers: tuple[Say, ...] = (said("answer", SOLVER),)
    """In turn, by the index of the sample."""
    solution: str = SOLUTION
    entry: str = "longest_warm_spell"


def _counting_tests(batch: int) -> Say:
    if batch == 1:
        return Say("<tests>\neasy WarmDaysEnv@", finish_reason="length")
    return said("tests", "```\n" + "\n".join(configs(batch, "WarmDaysEnv")) + "\n```")


def _bad_lines(batch: int) -> Say:
    good = configs(batch)
    bad = ["easy WarmSpellEnv@{'readings': []}", "easy OtherEnv@{}", "hard WarmSpellEnv@[1]", "# hard ones",
           'hard WarmSpellEnv@{"readings": [NaN], "limit": 1}',
           'hard WarmSpellEnv@{"days": [1], "limit": 1}']  # fmt: skip
    return said("tests", "\n".join([*good[:9], good[0], *bad]))


def _with(code: str) -> str:
    return f"{code}\n{ENVIRONMENT}"


CASES = {
    "good": Case(solvers=(*BAD_SOLVERS.values(), said("answer", SOLVER))),
    "counting": Case(
        environment=Say(
            "<think>First <env> then </env>, hm.</think>\r\n"
            "<task>\r\nHow many days were warm? (case: counting)\r\n</task>\r\n<env>\r\n```python\r\n"
            + COUNTING_ENVIRONMENT.replace("\n", "\r\n")
            + "```\r\n</env>\r\n"
        ),
        tests=_counting_tests,
        solvers=(said("answer", f"```python\n{COUNTING_SOLVER}```"),),
        solution=COUNTING_SOLUTION,
        entry="warm_days",
    ),
    "truncated": Case(environment=Say("<task>\nFind out\n</task>\n<env>\nimport js", finish_reason="length")),
    "untagged": Case(environment=Say(ENVIRONMENT)),
    "broken": Case(environment=replaced(ENVIRONMENT, ("def Observe(self):", "def Observe(self:"))),
    "no_class": Case(environment="print('no class')"),
    "odd_name": Case(environment=replaced(ENVIRONMENT, ("WarmSpellEnv", "Warm_Spell"))),
    "few_tools": Case(
        environment=replaced(
            ENVIRONMENT,
            *(
                (f'            "{name}": self.{code},\n', "")
                for name, code in [
                    ("ReadDay", "READ_DAY"),
                    ("LargerOf", "LARGER_OF"),
                    ("Lengthen", "LENGTHEN"),
                ]
            ),
        )
    ),
    "undocumented": Case(environment=replaced(ENVIRONMENT, ("Example Output", "Output"))),
    "raises": Case(environment=_with("raise RuntimeError('at import')")),
    "reads_files": Case(environment=_with("print(open('/etc/passwd').read())")),
    "exits": Case(environment=_with("import sys; sys.exit(0)")),
    "hangs": Case(environment=_with("while True: pass")),
    "hoards": Case(environment=_with("hoard = [bytearray(10**6) for _ in range(10**6)]")),
    "refused": Case(environment=Fail(400)),
    "wrong_reference": Case(environment=replaced(ENVIRONMENT, ("return best\n", "return best + 1\n"))),
    "slow_reference": Case(environment=replaced(ENVIRONMENT, reference("while True: pass"))),
    "constant": Case(tests=lambda batch: said("tests", "\n".join(configs(batch, high=17)))),
    "bad_lines": Case(tests=_bad_lines),
    "other_domain": Case(solution="def longest_warm_spell(readings, limit):\n    return readings[99]\n"),
    "unsolved": Case(solvers=(BAD_SOLVERS["wrong_answer"],)),
    "generous": Case(environment=replaced(ENVIRONMENT, ("= 1 if right else 0", "= 1"))),
    "unchecked": Case(
        environment=WARMEST_ENVIRONMENT,
        solvers=(said("answer", WARMEST_SOLVER),),
        solution="import numpy\n\ndef longest_warm_spell(readings, limit):\n    return 1\n",
    ),
    "shows_all": Case(
        environment=replaced(ENVIRONMENT, ('days were noted"\n\n', 'days were noted: {self.readings}"\n\n'))
    ),
    "tells": Case(environment=TELLING_ENVIRONMENT),
    "twin": Case(
        environment=replaced(ENVIRONMENT, *_RENAMES), solvers=(said("answer", replaced(SOLVER, *_RENAMES)),)
    ),
    "set_order": Case(
        environment=SET_ENVIRONMENT,
        solvers=(said("answer", SET_SOLVER),),
        solution=SET_SOLUTION,
        entry="warm_temperatures",
    ),
}  # fmt: skip


def problem(name: str) -> Problem:
    """The coding problem of a case."""
    return Problem(
        code_id=f"Own_{name}",
        origin="own",
        license="Apache-2.0",
        statement=f"How long was the longest warm spell? (case: {name})",
        source=CASES[name].solution,
        entry=CASES[name].entry,
    )


def write(asked: Asked) -> Say | Fail:
    """The model's answer to a prompt, at four characters a token."""
    answer = _written(asked)
    if isinstance(answer, Fail):
        return answer
    return replace(answer, prompt_tokens=len(asked.prompt) // 4, completion_tokens=len(answer.text) // 4)


def _written(asked: Asked) -> Say | Fail:
    name = _CASE.findall(asked.prompt)[-1]
    case = CASES[name]
    if asked.prompt.startswith("You design environments"):
        if isinstance(case.environment, str):
            task = f"<task>\nFind the longest warm spell. (case: {name})\n</task>\n"
            return Say(f"{task}<env>\n{case.environment}</env>\n")
        return case.environment
    if asked.prompt.startswith("You write test inputs"):
        return case.tests(2 if "This is batch 2" in asked.prompt else 1)
    if asked.prompt.startswith("You write demanding test inputs"):
        return case.tests(3)
    assert asked.prompt.startswith("You control an agent")
    return case.solvers[asked.seed % len(case.solvers)]

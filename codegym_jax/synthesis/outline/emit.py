"""Writes an environment in the published CodeGym format.

The file holds the solution as published, the class with its tools, and `solve`, the oracle, which touches
nothing but `self.step`.
"""

import ast
import copy
import re
import textwrap
from typing import Any

from codegym_jax.synthesis.outline import names, values
from codegym_jax.synthesis.outline.problem import Problem
from codegym_jax.synthesis.outline.scopes import functions, loaded_names
from codegym_jax.synthesis.outline.tools import Tool
from codegym_jax.synthesis.outline.trace import Call, Outline, Trace

_TYPES = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "list",
    dict: "dict",
    type(None): "None",
}

_MODULE = '''\
"""{title}: tools over a hidden input, made from {code_id} ({license})."""

import json

import gymnasium


{solution}


{rounding}class {class_name}(gymnasium.Env):
    r"""{statement}"""

    def __init__(self, env_str=None):
        super().__init__()
        self.func_mapping = {{
{mapping}
        }}
        self.reset(json.loads(env_str.split("@", 1)[1]) if env_str else None)

    @staticmethod
    def from_env_str(env_str):
        """Builds the environment from `{class_name}@<config as JSON>`; None for another class."""
        return {class_name}(env_str) if env_str.startswith("{class_name}@") else None

    @property
    def finished(self):
        """Whether an answer was submitted."""
        return self._done

    @property
    def reward(self):
        """1.0 when the submitted answer was right, else 0.0."""
        return self._reward

    def reset(self, options=None):
        """Installs a config and starts over."""
        self.inputs = {default} | (options or {{}})
{initial}        self.step_count = 0
        self._done = False
        self._reward = 0.0
        return "Environment has been reset."

    def step(self, action):
        """Runs one call, `{{"name": ..., "parameters": {{...}}}}`; what goes wrong is told in the message."""
        self.step_count += 1
        try:
            call = json.loads(action)
            name, parameters = call["name"], call["parameters"]
            if name not in self.func_mapping:
                raise ValueError(f"no tool is named {{name}}")
            return True, getattr(self, name)(**parameters)
        except Exception as error:
            return True, f"Error: {{type(error).__name__}}: {{error}}"

    def get_ref_answer(self):
        """The answer of the published solution."""
        answer = {reference}
        return {given_back}

    def Observe(self):
        r"""
        Shows the visible inputs, and the names of the hidden ones.

        Args:
            None

        Returns:
            str: JSON, name -> value, and the list of hidden inputs.

        Example Output:
            {observed}
        """
        return json.dumps({observe})

{tools}
    def Done(self, answer):
        r"""
        Submits the final answer and ends the episode.

        Args:
            answer ({answer_type}): {answer_meaning}

        Returns:
            str: The verdict.

        Example Output:
            Your answer: {answer}, Reference answer: {answer}, Result: Correct, reward=1
        """
        reference = self.get_ref_answer()
        correct = {comparison}
        self._reward = 1.0 if correct else 0.0
        self._done = True
        result = "Correct" if correct else "Incorrect"
        verdict = f"Result: {{result}}, reward={{int(correct)}}"
        return f"Your answer: {{answer}}, Reference answer: {{reference}}, {{verdict}}"

    def solve(self):
        """Solves the task through the tools alone; returns the verdict."""

        def call(name, **parameters):
            action = json.dumps({{"name": name, "parameters": parameters}})
            return json.loads(self.step(action)[1])

{solver}
        return self.step(json.dumps({{"name": "Done", "parameters": {{"answer": answer}}}}))[1]


if __name__ == "__main__":
    for config in (
{examples}
    ):
        env = {class_name}.from_env_str("{class_name}@" + json.dumps(config))
        print(env.solve(), "step count:", env.step_count)
'''

_TOOL = '''\
    def {name}({signature}):
        r"""
        {summary}

        Args:
{args}

        Returns:
            str: JSON of {returns}.

        Example Output:
            {example}
        """
{statements}        return json.dumps({expression})

'''

_ROUNDING = '''\
def _rounded(value):
    """The value with {digits} decimals in its floats."""
    if isinstance(value, float):
        return round(value, {digits}) + 0.0
    if type(value) in (list, tuple):
        return type(value)(map(_rounded, value))
    return {{key: _rounded(item) for key, item in value.items()}} if isinstance(value, dict) else value


def _agree(answer, reference):
    """Whether an answer is right, its floats within {tolerance}, relative above 1."""
    if isinstance(reference, float) and type(answer) in (int, float):
        return abs(answer - reference) <= {tolerance} * max(1.0, abs(reference))
    if isinstance(reference, list):
        return type(answer) is list and len(answer) == len(reference) and all(map(_agree, answer, reference))
    if isinstance(reference, dict):
        same_keys = type(answer) is dict and set(answer) == set(reference)
        return same_keys and all(_agree(answer[key], reference[key]) for key in reference)
    return answer == reference and isinstance(answer, bool) == isinstance(reference, bool)


'''


def class_name(problem: Problem, outline: Outline, statement: str) -> str:
    """`BelowThresholdEnv`: after the entry function, the function that does its work, or the task's text."""
    name = problem.entry
    if name in ("main_solution", "solution", "solve", "f"):
        used = loaded_names(next(f for f in functions(outline.tree) if f.name == problem.entry))
        helpers = [f.name for f in functions(problem.normalize(False)) if f.name != problem.entry]
        called = [helper for helper in helpers if helper in used] or helpers
        name = called[-1] if called else names.of_statement(statement) or problem.projection or "problem"
    return (re.sub("[^A-Za-z]", "", names.pascal(name))[:60] or "Problem") + "Env"


def environment(
    problem: Problem, outline: Outline, traces: list[Trace], about: dict[str, Any]
) -> tuple[str, str]:
    """(class name, source) of the environment.

    Args:
      problem: the problem.
      outline: its outlined solver.
      traces: (sample, calls) pairs; the first are shown as examples.
      about: dict with `code_id`, `statement` and `license`.
    """
    name = class_name(problem, outline, about["statement"])
    sample = traces[0][0]
    visible = [name for name in sample.inputs if name not in problem.hidden]
    hidden_key = names.unique("hidden", visible)
    shown = "".join(f'"{p}": self.inputs["{p}"], ' for p in visible)
    observed = {p: sample.inputs[p] for p in visible} | {hidden_key: problem.hidden}
    lifted = problem.lifted()
    given = "self.inputs"
    if problem.position is not None:
        given = f"{{name: self.inputs[name] for name in self.inputs if name != {problem.position!r}}}"
    reference = f"{problem.entry}(**json.loads(json.dumps({given}))){problem.asked('self.inputs')}"
    rounds = problem.digits is not None
    tools = list(outline.tools.values())
    calls = {tool.name: [c for _, log in traces for c in log if c.tool == tool.name] for tool in tools}
    used = [tool for tool in tools if calls[tool.name]]
    mapping = ["Observe", *(tool.name for tool in used), "Done"]
    types = sorted({_type(trace[0].answer) for trace in traces})
    source = _MODULE.format(
        title=names.title(name.removesuffix("Env")),
        code_id=about["code_id"],
        license=about["license"],
        solution="\n\n\n".join([problem.source.strip(), *lifted]),
        rounding=_ROUNDING.format(digits=problem.digits, tolerance=values.TOLERANCE) if rounds else "",
        comparison="_agree(answer, reference)"
        if rounds
        else "answer == reference and isinstance(answer, bool) == isinstance(reference, bool)",
        given_back="_rounded(json.loads(json.dumps(answer)))" if rounds else "json.loads(json.dumps(answer))",
        class_name=name,
        statement=_docstring(_wrapped(about["statement"])),
        mapping="\n".join(f'            "{tool}": {number},' for number, tool in enumerate(mapping)),
        default=values.to_json(None) if not sample.inputs else repr(sample.inputs),
        initial=_initial(outline, used),
        reference=reference,
        observed=_example(values.to_json(observed)),
        observe=f"{{{shown}{hidden_key!r}: {problem.hidden!r}}}",
        tools="\n".join(_tool(tool, calls[tool.name], rounds) for tool in used),
        answer_type=" or ".join(types),
        answer_meaning=_answer_meaning(problem),
        answer=_example(str(sample.answer)),
        solver=_solver(problem, outline, visible),
        examples="\n".join(f"        {trace[0].inputs!r}," for trace in traces[:2]),
    )
    return name, source


def _initial(outline: Outline, used: list[Tool]) -> str:
    """The lines of `reset` that install the state of the tools that are used."""
    sources = [source for tool in used for source in (*tool.statements, tool.expression)]
    lines = [
        f"        self.{name} = {value}\n"
        for name, value in outline.initial.items()
        if any(re.search(rf"\bself\.{name}\b", source) for source in sources)
    ]
    return "".join(lines)


def _answer_meaning(problem: Problem) -> str:
    whole = "the answer" if problem.projection is None else f"the value of `{problem.projection}`"
    return f"{whole}." if problem.position is None else f"element `{problem.position}` of {whole}."


def _solver(problem: Problem, outline: Outline, visible: list[str]) -> str:
    """The body of `solve` up to the answer."""
    nested = _needed_definitions(outline.tree, problem.entry)
    blocks = [ast.unparse(_SelfRenamed().visit(copy.deepcopy(node))) + "\n" for node in nested]
    passed = [f"{name}=observed[{name!r}]" for name in visible if name != problem.position]
    passed += [f"{name}={ast.unparse(expression)}" for name, expression in outline.arguments.items()]
    observe = "observed = call('Observe')" if visible else "call('Observe')"
    prelude = [ast.unparse(statement) for statement in outline.prelude]
    asked = problem.asked("observed", normalized=True)
    blocks += [observe, *prelude, f"answer = {problem.entry}({', '.join(passed)}){asked}"]
    return textwrap.indent("\n".join(blocks), " " * 8)


class _SelfRenamed(ast.NodeTransformer):
    """Classes inside `solve` call their instance `this`, so that `self` is the environment throughout."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("this", node.ctx) if node.id == "self" else node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg("this", node.annotation) if node.arg == "self" else node


def _needed_definitions(tree: ast.Module, entry: str) -> list[ast.stmt]:
    """The definitions that the entry function reaches and that call tools, themselves or through others."""
    defined = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    reading = {name: loaded_names(node) for name, node in defined.items()}
    calling = {name for name, loaded in reading.items() if "call" in loaded}
    grown = True
    while grown:
        more = {name for name, loaded in reading.items() if loaded & calling} - calling
        calling |= more
        grown = bool(more)
    reached, frontier = {entry}, [entry]
    while frontier:
        for name in sorted(reading[frontier.pop()] & set(defined)):
            if name not in reached:
                reached.add(name)
                frontier.append(name)
    return [node for name, node in defined.items() if name in reached and (name in calling or name == entry)]


def _tool(tool: Tool, calls: list[Call], rounds: bool) -> str:
    """The method of one tool."""
    lines = []
    for parameter in tool.parameters:
        seen = sorted({_type(c.arguments[parameter]) for c in calls if parameter in c.arguments})
        meaning = tool.details.get(parameter, f"the value of `{parameter}`")
        lines.append(f"            {parameter} ({' or '.join(seen) or 'any'}): {meaning}.")
    returned = sorted({_type(call.result) for call in calls})
    return (
        _TOOL.format(
            name=tool.name,
            signature=tool.signature(),
            summary=tool.summary,
            args="\n".join(lines) or "            None",
            returns="a value of type " + " or ".join(returned),
            example=_example(values.to_json(calls[0].result)),
            statements="".join(f"        {statement}\n" for statement in tool.statements),
            expression=f"_rounded({tool.expression})" if rounds else tool.expression,
        ).rstrip("\n")
        + "\n"
    )


def _type(value: Any) -> str:
    if isinstance(value, list) and value:
        kinds = {_TYPES[type(item)] for item in value}
        return f"list[{kinds.pop()}]" if len(kinds) == 1 else "list"
    return _TYPES.get(type(value), "any")


def _example(text: str) -> str:
    return _docstring(text if len(text) <= 100 else text[:97] + "...")


def _wrapped(text: str) -> str:
    """The text with lines of at most 100 characters, indented for a class docstring."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 100) or [""]]
    return "\n".join([*lines[:1], *(f"    {line}" if line else "" for line in lines[1:])])


def _docstring(text: str) -> str:
    """Text that may stand inside a raw docstring."""
    return text.replace('"""', "'''").rstrip('\\"')

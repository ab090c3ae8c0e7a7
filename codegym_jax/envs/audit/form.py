"""The form of an environment, read from its text: interface, docstrings, and what `solve` touches."""

import ast
import re

from codegym_jax.envs.audit.finding import Finding, count, failed, listed, passed, warned
from codegym_jax.envs.check import verify_environment
from codegym_jax.envs.environment_source import REQUIRED_METHODS, parse_tree
from codegym_jax.records import EnvSpec

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_PUBLISHED_TOO = ("from_env_str", "step_count")
"""Parts of the published interface that this project's runtime does without."""
_NO_TOOLS = frozenset({*REQUIRED_METHODS, *_PUBLISHED_TOO}) - {"Observe", "Done"}
_INWARD = frozenset(
    {"__self__", "__func__", "__dict__", "__class__", "__globals__", "__closure__", "__code__"}
)
_EXAMPLE = re.compile(r"^[ \t]*Example Outputs?\s*:", re.MULTILINE)
_CHECK_OF = {"undocumented_tool": "docstrings", "oracle_reads_state": "oracle"}
_HINTS = {
    "too_few_tools": "split the solution into more steps, each of them a tool",
    "lacks_tool": "write the method and name it in func_mapping",
    "undocumented_tool": "write the section: the docstring is all that the agent knows of a tool",
    "oracle_reads_state": "let solve learn everything from the text that self.step returns",
}


def check_form(spec: EnvSpec) -> list[Finding]:
    """Findings of the checks `format` and `docstrings`; of `oracle` only what `solve` must not touch."""
    tree = parse_tree(spec.source)
    methods = _methods(tree, spec.class_name)
    found = [
        failed(_CHECK_OF.get(reason := rejection.reason, "format"), rejection.detail, _HINTS.get(reason, ""))
        for rejection in verify_environment(spec)
    ]
    found += _interface(spec, tree) + _docstrings(spec, methods) + _ways_around_step(methods["solve"])
    tools = count(len(spec.tools), "tool")
    summaries = {
        "format": f"class {spec.class_name} with {tools}",
        "docstrings": f"{tools}, each with its parameters, types, result and an example",
    }
    silent = summaries.keys() - {finding.check for finding in found}
    return found + [passed(check, summaries[check]) for check in sorted(silent)]


def _methods(tree: ast.Module, class_name: str) -> dict[str, _Function]:
    """Name -> method; those of the environment's class win over those of other classes in the file."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    classes.sort(key=lambda node: node.name == class_name)
    return {item.name: item for node in classes for item in node.body if isinstance(item, _Function)}


def _interface(spec: EnvSpec, tree: ast.Module) -> list[Finding]:
    found = []
    names = [tool.name for tool in spec.tools]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found.append(failed("format", f"func_mapping names {listed(twice)} twice", "name each tool once"))
    taken = sorted(_NO_TOOLS.intersection(names))
    if taken:
        hint = "a tool that the agent calls needs a name of its own"
        found.append(failed("format", f"func_mapping makes a tool of {listed(taken)}", hint))
    present = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    present |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    lacking = [name for name in _PUBLISHED_TOO if name not in present]
    if lacking:
        hint = "this runtime does without, servers of the published format do not"
        found.append(warned("format", f"the class lacks {listed(lacking)}", hint))
    return found


def _docstrings(spec: EnvSpec, methods: dict[str, _Function]) -> list[Finding]:
    parameters = [(f"{tool.name}({p.name})", p) for tool in spec.tools for p in tool.parameters]
    undescribed = [label for label, parameter in parameters if not parameter.description]
    untyped = [label for label, parameter in parameters if not parameter.type_name]
    without_example = [
        tool.name for tool in spec.tools if not _EXAMPLE.search(ast.get_docstring(methods[tool.name]) or "")
    ]
    found = []
    if undescribed:
        hint = "give each parameter a line under Args: `name (type): meaning`"
        found.append(warned("docstrings", f"Args says nothing of {listed(undescribed)}", hint))
    if untyped:
        hint = "give the type under Args: `name (type): meaning`"
        found.append(warned("docstrings", f"no type for {listed(untyped)}", hint))
    if without_example:
        hint = "agents are not shown the Example Output, but whoever writes an oracle needs it"
        found.append(warned("docstrings", f"no Example Output for {listed(without_example)}", hint))
    return found


def _ways_around_step(solve: _Function) -> list[Finding]:
    """What `solve` can reach hidden state by without naming an attribute of `self`."""
    attributes = [node for node in ast.walk(solve) if isinstance(node, ast.Attribute)]
    bases = {id(node.value) for node in attributes}
    found = sorted(_INWARD & {node.attr for node in attributes})
    if any(isinstance(n, ast.Name) and n.id == "self" and id(n) not in bases for n in ast.walk(solve)):
        found.append("self as a whole")
    if not found:
        return []
    return [warned("oracle", f"solve uses {listed(found)}", _HINTS["oracle_reads_state"])]

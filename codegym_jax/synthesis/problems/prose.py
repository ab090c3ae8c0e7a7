"""What a documented function asks for, in prose: no examples, no complexity, and little of the procedure."""

import re
import textwrap

_HEADER = re.compile(
    r"(?P<name>Args|Arguments|Parameters|Params|Returns?|Yields?|Raises|Examples?(?: \d+)?|Complexity"
    r"|Time(?: complexity)?|Space(?: complexity)?|References?|Sources?|See also|Usage|Authors?)"
    r"\s*(?::\s*(?P<rest>.*)|)",
    re.IGNORECASE,
)
_SORTS = (
    r"(?:bubble|insertion|selection|merge|quick|shell|counting|bucket|radix|heap|bead|comb|gnome)[- ]?sort"
)
_MEANS = (
    r"pointers?|hash\w*|stacks?|queues?|deques?|heaps?|dynamic programming|dp|recurs\w+|iterat\w+|bfs|dfs"
    r"|breadth\S*|depth\S*|search|windows?|backtrack\w*|greedy|divid\w+|techniques?|approach|methods?|algorithms?"
    r"|memo\w+|bottom-up|top-down|lookups?|\w*sort|sorting|counting|brute\S*|naive|xor|bits?|bitwise|\w*mask\w*"
    r"|formula|slic\w+|tables?|tries?|trees?|union\S*|loops?|travers\w+|sieve|regex|expressions?|parsing|helpers?"
    r"|comprehensions?|sets?|partition\w*|swap\w*|arithmetic|modul\w+|powers?|builtins?|built-in|generators?"
    r"|arrays?|dict\w*|counters?|carry|propagation|urllib|bisect|copy|variant|version|division|optimi[sz]ation"
)
_CLAUSE = re.compile(
    rf"(?<!without),?\s+(?:(?:by )?using|via|by means of)\s+(?:(?!\b(?:into|so that|such that)\b)[^.,;:(])*?"
    rf"\b(?:{_MEANS})\b[^.,;:(]*?(?=\s*(?:[.,;:(]|$))"
    r"|,?\s+by (?:splitting|scanning|sorting|estimating|converting|tracking|counting|comparing)\b[^.,;:]*"
    rf"|\s+\([^)]*\b(?:{_MEANS})\b[^)]*\)",
    re.IGNORECASE,
)
_COST = re.compile(
    r"(?:,? which runs)?\s+(?:in|for|using)\s+(?:O\((?:[^()]|\([^)]*\))*\)|constant|linear|logarithmic)"
    r"(?:\s+(?:extra )?(?:time|space)(?:\s+and\s+\S+\s+(?:time|space))?|(?=[.,;]|$))",
    re.IGNORECASE,
)
_ADVERB = re.compile(r"\s*\b(?:recursively|iteratively)\b\s*", re.IGNORECASE)
_PROCEDURE = re.compile(
    r"^(?:(?:It|This|Both|The (?:algorithm|function|idea|approach|method|solution))\s+)?(?:\w+ly\s+)?"
    r"(?:uses?|using|works? by|starts? (?:by|at|from)|begins? (?:by|at|with)|iterates?|traverses?|maintains?"
    r"|keeps? track|transforms?|time complexity|space complexity|runs? in|inspired by|modifies|provides"
    r"|implements|supports|multiple|this module"
    r"|(?:two|three|four|both|several) (?:different )?(?:approach|implement|version))\b"
    r"|\b(?:repeatedly|works by|step by step|two-pointer|dynamic programming|divides? and conquer|divides the"
    r"|steps through|different approaches|approaches of|(?:are|is) provided"
    r"|we (?:identify|decide|keep|use|can)"
    rf"|{_SORTS}|\w*(?:sort|search) (?:is|uses|works|divides|builds|improves)|O\([^)]*\)"
    r"|algorithm (?:is|that|uses|works|to)|implementations?)\b",
    re.IGNORECASE,
)
_THIRD_PERSON = re.compile(
    r"(?:First |Then |It )?(?!Returns|Raises|Assumes|Contains|Allows|Ignores|This)[A-Z]\w+s\s"
)
_TITLE_CHARS = 80


def statement(function_text: str, module_text: str = "") -> str:
    """What is asked, from the docstrings of a function and of its module.

    Args:
      function_text: the function's cleaned docstring; its text, arguments and results are kept.
      module_text: the module's; its text is kept, its title is not.
    """
    prose, sections = _sections(function_text)
    about, _ = _sections(_untitled(module_text))
    summary, _, details = prose.partition("\n\n")
    parts = [_asked(summary), _asked(details, _THIRD_PERSON), _asked(about)]
    if not any(parts):
        parts = [_shortened(_flowing(summary))]
    if arguments := next(
        (sections[name] for name in ("args", "arguments", "parameters") if sections.get(name)), ""
    ):
        parts.append(f"Arguments:\n{textwrap.indent(arguments, '  ')}")
    if result := next((sections[name] for name in ("returns", "return", "yields") if sections.get(name)), ""):
        parts.append(f"Returns: {_flowing(result)}")
    return "\n\n".join(part for part in parts if part)


def _sections(text: str) -> tuple[str, dict[str, str]]:
    """The prose of a docstring and its sections by lower-case name, the interactive examples left out."""
    sections: dict[str, list[str]] = {"": []}
    current, in_example = "", False
    for line in text.splitlines():
        bare = line.strip()
        in_example = bare.startswith(">>>") or (in_example and bool(bare))
        if in_example or re.fullmatch(r"[-=~]{3,}", bare):
            continue
        header = _HEADER.fullmatch(line)
        if header:
            current = header["name"].lower()
            sections.setdefault(current, []).extend([header["rest"]] if header["rest"] else [])
        elif bare and not line.startswith(" ") and current and sections[current][-1:] == [""]:
            current = ""
            sections[current].append(line)
        else:
            sections[current].append(line)
    texts = {name: textwrap.dedent("\n".join(lines)).strip() for name, lines in sections.items()}
    return texts.pop(""), texts


def _untitled(text: str) -> str:
    """A module's docstring without its first line, where that is a title."""
    first, _, rest = text.partition("\n")
    is_title = len(first) <= _TITLE_CHARS and (not rest.strip() or rest.startswith("\n"))
    return rest.strip() if is_title else text


def _asked(text: str, told: re.Pattern[str] | None = None) -> str:
    """The paragraphs without the sentences that tell a procedure, by their words or as `told` begins them."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text):
        if any(line.startswith("  ") for line in paragraph.splitlines()):  # a drawing or a list: as it stands
            paragraphs.append(paragraph.rstrip())
            continue
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z*\"'`(\[])", _flowing(paragraph))
        kept = [_shortened(sentence) for sentence in sentences if not (told and told.match(sentence))]
        paragraphs.append(" ".join(sentence for sentence in kept if not _PROCEDURE.search(sentence)))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph.strip())


def _shortened(sentence: str) -> str:
    """A sentence without what it says of means and cost."""
    kept = _ADVERB.sub(" ", _CLAUSE.sub("", _COST.sub("", sentence))).strip()
    kept = re.sub(r"\s+([.,;])", r"\1", kept)
    return kept[:1].upper() + kept[1:] if sentence[:1].isupper() else kept


def _flowing(text: str) -> str:
    return " ".join(text.split())

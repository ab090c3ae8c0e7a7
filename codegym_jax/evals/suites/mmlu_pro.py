"""MMLU-Pro from its own rows: one question, up to ten choices, the letter of the answer read from the reply.

Rows are as the data set has them: `question_id`, `question`, `options` (a list of texts), `answer` (a letter)
and `category`, in a Parquet or JSON-lines file, or a hub repository whose test split is Parquet.

Source: Wang et al. 2024, https://arxiv.org/abs/2406.01574; https://huggingface.co/datasets/TIGER-Lab/MMLU-Pro
(the columns).
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codegym_jax.data.export import ExportError, read_parquet
from codegym_jax.evals.suites.registry import MMLU_PRO
from codegym_jax.evals.suites.suite import Message, Opening, Reaction, Score, SuiteError, SuiteFacts

ALL = "all"
LETTERS = "ABCDEFGHIJKLMNOP"
_HUB = "hub:"
_PATTERNS = (
    re.compile(r"(?i:answer\s*(?:is|:))\s*(?:\*\*|\\boxed\{|\$)?\s*\(?([A-P])\b"),
    re.compile(r"\\boxed\{\s*\(?([A-P])\)?\s*\}"),
    re.compile(r"^\W*([A-P])\W*$", re.MULTILINE),
)
"""What a final answer looks like, the form that was asked for first. The last match counts."""
_ASK = (
    "Answer this question about {subject}. Think step by step, then end with the line `The answer is (X)`,"
    " where X is the letter of the right choice.\n\n{question}\n\n{choices}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A row."""

    name: str
    question: str
    options: tuple[str, ...]
    answer: str
    category: str
    """As a subset is named: small letters, digits and underscores."""

    def text(self) -> str:
        """As the policy reads it."""
        choices = "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, self.options, strict=False))
        return _ASK.format(
            subject=self.category.replace("_", " "), question=self.question.strip(), choices=choices
        )


def answer_letter(text: str) -> str:
    """The letter that a reply ends up with; empty where there is none."""
    for pattern in _PATTERNS:
        if found := pattern.findall(text):
            return found[-1]
    return ""


class MmluPro:
    """The questions; a `Suite`. Its subsets are their categories, and all of them."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._questions = {question.name: question for question in questions}
        texts = json.dumps([[q.name, q.question, q.options, q.answer] for q in self._questions.values()])
        self._digest = hashlib.sha256(texts.encode()).hexdigest()[:16]

    @property
    def facts(self) -> SuiteFacts:
        categories = dict.fromkeys(question.category for question in self._questions.values())
        return SuiteFacts(
            suite=MMLU_PRO,
            package="rows",
            version=self._digest,
            subsets=(ALL, *sorted(categories)),
            single_turn=True,
        )

    def tasks(self, subset: str) -> list[str]:
        return [name for name, question in self._questions.items() if subset in (ALL, question.category)]

    def open(self, subset: str, task: str) -> "_Session":
        del subset
        return _Session(self._questions[task])

    def close(self) -> None:
        pass


class _Session:
    def __init__(self, question: Question) -> None:
        self._question, self._letter = question, ""

    @property
    def opening(self) -> Opening:
        return Opening(messages=[{"role": "user", "content": self._question.text()}])

    def reply(self, message: Message) -> Reaction:
        self._letter = answer_letter(str(message.get("content") or ""))
        return Reaction(messages=[], finished=True)

    def gold(self) -> Message:
        return {"role": "assistant", "content": f"The answer is ({self._question.answer})"}

    def score(self) -> Score:
        right = self._letter == self._question.answer
        return Score(
            score=float(right), detail={"answered": self._letter, "category": self._question.category}
        )

    def close(self) -> None:
        pass


def open_mmlu_pro(source: str) -> MmluPro:
    """The questions of a file, or of a hub repository's test split.

    Args:
      source: a path that ends in .parquet or .jsonl, or `hub:organization/name`.

    Raises:
      SuiteError: when there is no such file, or a row is no question: names file and row.
    """
    rows: list[Any] = []
    paths = _download(source.removeprefix(_HUB)) if source.startswith(_HUB) else [pathlib.Path(source)]
    for path in paths:
        rows += [(f"{path}:{number}", row) for number, row in enumerate(_rows(path), 1)]
    questions = [_question(row, where) for where, row in rows]
    if not questions:
        raise SuiteError(f"suite {MMLU_PRO}: {source} holds no questions")
    if len({question.name for question in questions}) < len(questions):
        raise SuiteError(f"suite {MMLU_PRO}: {source} has a question_id twice")
    return MmluPro(questions)


def _download(repository: str) -> list[pathlib.Path]:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SuiteError(f"suite {MMLU_PRO}: {_HUB} needs `pip install 'codegym-jax[hub]'`") from error
    try:
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=["*test*.parquet"])
    except (OSError, ValueError) as error:
        raise SuiteError(f"suite {MMLU_PRO}: {_HUB}{repository} cannot be fetched: {error}") from error
    return sorted(pathlib.Path(folder).rglob("*test*.parquet"))


def _rows(path: pathlib.Path) -> Iterable[Any]:
    if not path.is_file():
        raise SuiteError(f"suite {MMLU_PRO}: there is no file {path}")
    if path.suffix == ".parquet":
        try:
            return list(read_parquet(path))
        except ExportError as error:
            raise SuiteError(f"suite {MMLU_PRO}: {error}") from error
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise SuiteError(f"suite {MMLU_PRO}: {path}: not JSON lines: {error}") from error


def _question(row: Any, where: str) -> Question:
    row = row if isinstance(row, Mapping) else {}
    options, answer = row.get("options"), str(row.get("answer", "")).strip().upper()
    told = {key: str(row[key]) for key in ("question_id", "question") if key in row}
    texts = isinstance(options, list | tuple) and 2 <= len(options) <= len(LETTERS)
    if len(told) < 2 or not texts or len(answer) != 1 or answer not in LETTERS[: len(options or ())]:
        raise SuiteError(
            f"suite {MMLU_PRO}: {where}: a row needs question_id, question, options (2 to"
            f" {len(LETTERS)} texts) and answer, the letter of one of them"
        )
    return Question(
        name=told["question_id"],
        question=told["question"],
        options=tuple(str(option) for option in options or ()),
        answer=answer,
        category=re.sub(r"\W+", "_", str(row.get("category") or "general").strip().lower(), flags=re.ASCII),
    )

"""How the turns of a chat become one text: ChatML by our own hand, or the template that a model brings.

A template is a Jinja program in the tokenizer's files. It runs in Jinja's sandbox, in the surroundings that
Hugging Face `transformers` documents: the filter `tojson` that escapes no HTML, `raise_exception`,
`strftime_now` (at a fixed date here: a prompt is the same every day), loop controls and `generation` blocks.
Any template works that ends a message with an added token and frames what follows it apart from what
preceded it, such as those of Qwen2.5, Qwen3, Llama 3 and SmolLM2.

A template sees text from outside (`Content`) with a private character inside every token that the text
spells. So the tokens in what it writes are its own, and text without them it sees as it is, to the same
result as in `transformers`.

Source: https://huggingface.co/docs/transformers/chat_templating_writing (names that a template may use).
"""

import datetime
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.sandbox

from codegym_jax.config import UserError
from codegym_jax.data.style import Content, Piece, Special

_START, _END = Special("<|im_start|>"), Special("<|im_end|>")
_TODAY = datetime.datetime(2024, 7, 26)
"""The day it always is for a template; the one that Llama 3.1's own names where it is told none."""
_RUNTIME_ERRORS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_PRIVATE = ((0xE000, 0xF900), (0xF0000, 0xFFFFE), (0x100000, 0x10FFFE))
"""Unicode's private-use areas, which hold no character that means anything."""


class ChatTemplateError(UserError):
    """A template that cannot be read, fails on our messages, or does not frame turns with tokens."""


class Message(NamedTuple):
    """One message: its role, and its text in parts, our own words (`str`) and words from outside."""

    role: str
    parts: tuple[str | Content, ...]


@runtime_checkable
class Frame(Protocol):
    """Frames messages as turns of a chat."""

    @property
    def takes_tools(self) -> bool:
        """Whether it lists tools itself, and frames messages of role `tool`."""
        ...

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the tokens that the tokenizer must have; `stop` among them."""
        ...

    @property
    def stop(self) -> Special:
        """Ends a policy message."""
        ...

    def open(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> tuple[Piece, ...]:
        """A chat up to where the policy's message begins."""
        ...

    def follow(self, messages: Sequence[Message]) -> tuple[Piece, ...]:
        """What stands between the `stop` of a policy message and the next one: these messages, framed."""
        ...


class ChatML:
    """`<|im_start|>role`, a line break, the message, `<|im_end|>`, a line break."""

    takes_tools = False
    special_tokens = (_START.name, _END.name)
    stop = _END

    def open(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> tuple[Piece, ...]:
        """Raises `ValueError` on tools: they go into the messages."""
        if tools:
            raise ValueError("ChatML has no place for tools")
        pieces: list[Piece] = []
        for role, parts in messages:
            pieces += (_START, f"{role}\n", *parts, _END, "\n")
        return (*pieces, _START, "assistant\n")

    def follow(self, messages: Sequence[Message]) -> tuple[Piece, ...]:
        return ("\n", *self.open(messages))


class ChatTemplate:
    """A model's own template.

    Args:
      source: the template, in Jinja.
      added_tokens: names of the tokenizer's added tokens, special or not.
      variables: what the template finds beside messages and tools: `bos_token` and other names of tokens,
        and switches such as `enable_thinking`.

    Raises:
      ChatTemplateError: when it cannot be read, fails on a chat of a few words, or ends a message with
        anything but an added token.
    """

    def __init__(
        self, source: str, *, added_tokens: Iterable[str], variables: Mapping[str, Any] | None = None
    ) -> None:
        # A token of one character could not be told from the character.
        names = sorted((name for name in added_tokens if len(name) > 1), key=len, reverse=True)
        if not names:
            raise ChatTemplateError("a chat template needs a tokenizer with added tokens; this one has none")
        alternatives = "|".join(map(re.escape, names))
        self._token = re.compile(alternatives)
        self._spelled = re.compile(f"(?=(?:{alternatives}))(.)", re.DOTALL)
        self._variables = dict(variables or {})
        self._source = source
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            names_read = jinja2.meta.find_undeclared_variables(environment.parse(source))
        except jinja2.TemplateSyntaxError as error:
            message = f"the chat template is no Jinja: line {error.lineno}: {error.message}"
            raise ChatTemplateError(message) from error
        self.stop = self._after_message([Message("user", ("And then?",))])[0]
        self.takes_tools = "tools" in names_read and self._frames_tool_results()
        self.special_tokens = (self.stop.name,)

    def open(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> tuple[Piece, ...]:
        """Raises `ChatTemplateError` when the template fails on them."""
        text, mark = self._render(messages, tools)
        return tuple(self._split(text, mark))

    def follow(self, messages: Sequence[Message]) -> tuple[Piece, ...]:
        """Raises `ChatTemplateError` when the template fails on them."""
        _, rest = self._after_message(messages)
        return rest

    def _frames_tool_results(self) -> bool:
        """Whether the role `tool` is enough; some want more of a result, such as the id of its call."""
        try:
            pieces = self.follow([Message("tool", (Content("12345"),))])
        except ChatTemplateError:
            return False
        return any(isinstance(piece, Content) and "12345" in piece.text for piece in pieces)

    def _after_message(self, messages: Sequence[Message]) -> tuple[Special, tuple[Piece, ...]]:
        """The token that ends a policy message, and what the template writes from there on."""
        probe = _unused_character(_strings(messages))
        chat = [Message("user", ("Begin.",)), Message("assistant", (probe,)), *messages]
        text, mark = self._render(chat, ())
        if text.count(probe) == 1:
            stop, *rest = (*self._split(text[text.index(probe) + 1 :], mark), "")
            if isinstance(stop, Special):
                return stop, tuple(piece for piece in rest if piece)
        raise ChatTemplateError("the chat template must write each message once and end it with a token")

    def _render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
        """What the template writes, and the character that hides each token spelled by text from outside."""
        mark = _unused_character((self._source, *_strings(messages), *_strings(tools)))

        def hide(text: str) -> str:
            return self._spelled.sub(rf"\1{mark}", text) if self._token.search(text) else text

        def hide_all(value: Any) -> Any:
            match value:
                case str():
                    return hide(value)
                case Mapping():
                    return {hide(key): hide_all(one) for key, one in value.items()}
                case list() | tuple():
                    return [hide_all(one) for one in value]
                case _:
                    return value

        plain = [
            {
                "role": role,
                "content": "".join(hide(one.text) if isinstance(one, Content) else one for one in parts),
            }
            for role, parts in messages
        ]
        try:
            text = self._template.render(
                {
                    **self._variables,
                    "messages": plain,
                    "tools": hide_all(tools) or None,
                    "documents": None,
                    "add_generation_prompt": True,
                }
            )
        except _RUNTIME_ERRORS as error:
            raise ChatTemplateError(f"the chat template fails: {error}") from error
        return text, mark

    def _split(self, text: str, mark: str) -> Iterator[Content | Special]:
        end = 0
        for match in self._token.finditer(text):
            if match.start() > end:
                yield Content(text[end : match.start()].replace(mark, ""))
            yield Special(match[0])
            end = match.end()
        if end < len(text):
            yield Content(text[end:].replace(mark, ""))


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _TODAY.strftime
    return environment


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what a model writes, for those who train on it; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012 (the base class has it so)

    def parse(self, parser: Any) -> list[Any]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strings(value: Any) -> Iterator[str]:
    """Every text in messages or schemas."""
    match value:
        case str():
            yield value
        case Content(text=text):
            yield text
        case Mapping():
            for key, one in value.items():
                yield key
                yield from _strings(one)
        case list() | tuple():
            for one in value:
                yield from _strings(one)


def _unused_character(texts: Iterable[str]) -> str:
    """The first private character that no text holds.

    Raises:
      ChatTemplateError: when the texts hold all 137,000 of them.
    """
    used = set[str]().union(*(text for text in texts if not text.isascii()))
    codes = itertools.chain.from_iterable(range(*area) for area in _PRIVATE)
    found = next((chr(code) for code in codes if chr(code) not in used), None)
    if found is None:
        raise ChatTemplateError("a text holds every private character of Unicode")
    return found

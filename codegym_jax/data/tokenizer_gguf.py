"""The tokenizer inside a GGUF file: read from its header alone, weights untouched, no other package needed.

A GGUF file holds tokens, merges, and the *name* of the rule that splits text into words; the rule itself lies
in llama.cpp. `_SPLITS` has those of the model families that we train.

Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The rules are those
in llama.cpp's `src/llama-vocab.cpp`; that of Qwen also normalizes, as the model's own tokenizer file says.
"""

import mmap
import pathlib
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

_SCALARS = {
    **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?"},
    **{10: "<Q", 11: "<q", 12: "<d"},
}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_CONTROL, _USER_DEFINED = 3, 4  # token types; the others are ordinary vocabulary
_TOKEN_NAMES = ("bos", "eos", "unknown", "padding", "eot")


class GgufError(ValueError):
    """A file that is no GGUF, is cut off, or holds a tokenizer of another kind."""


class GgufTokenizer(NamedTuple):
    """What the header of a GGUF file says about text."""

    backend: tokenizers.Tokenizer
    chat_template: str | None
    token_names: dict[str, str]
    """`eos_token`, `bos_token` and so on, as a chat template calls them."""


class _Split(NamedTuple):
    """How text becomes words before merges apply."""

    steps: Callable[[], list[pre_tokenizers.PreTokenizer]]
    normalizer: normalizers.Normalizer | None = None
    whole_words: bool = False  # a word of the vocabulary is looked up before any merge applies


def read_metadata(path: pathlib.Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """The key-value pairs of a GGUF file's header whose keys begin with one of `prefixes`.

    Raises:
      GgufError: when it is no GGUF of version 2 or 3, or ends too early.
    """
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(data).metadata(prefixes)
        except (struct.error, IndexError, ValueError) as error:  # an empty file cannot be mapped
            raise GgufError(str(error)) from error


def read(path: pathlib.Path) -> GgufTokenizer:
    """The tokenizer of a GGUF file.

    Raises:
      GgufError: when it is no GGUF, or its tokenizer is not a byte-level BPE with a known rule.
    """
    fields = read_metadata(path, ("tokenizer.",))

    def field(name: str) -> Any:
        key = f"tokenizer.ggml.{name}"
        if key not in fields:
            raise GgufError(f"no key {key}")
        return fields[key]

    model, rule = field("model"), fields.get("tokenizer.ggml.pre", "default")
    if model != "gpt2":
        raise GgufError(f"the tokenizer must be a byte-level BPE ('gpt2'), not {model!r}")
    if rule not in _SPLITS:
        raise GgufError(f"the rule tokenizer.ggml.pre must be one of {', '.join(_SPLITS)}, not {rule!r}")
    tokens, merges, types = field("tokens"), field("merges"), field("token_type")
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    if len(types) != len(tokens) or any(len(pair) != 2 for pair in pairs):
        raise GgufError("as many token types as tokens are needed, and two tokens in each merge")
    names = {
        f"{name}_token": tokens[index]
        for name in _TOKEN_NAMES
        if 0 <= (index := fields.get(f"tokenizer.ggml.{name}_token_id", -1)) < len(tokens)
    }
    for longer, shorter in (("unknown_token", "unk_token"), ("padding_token", "pad_token")):
        if longer in names:
            names[shorter] = names.pop(longer)
    template = "tokenizer.chat_template"
    return GgufTokenizer(
        backend=_build(tokens, pairs, types, _SPLITS[rule]),
        chat_template=fields.get(f"{template}.tool_use", fields.get(template)),
        token_names=names,
    )


def _build(
    tokens: list[str], merges: list[tuple[str, str]], types: list[int], split: _Split
) -> tokenizers.Tokenizer:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split.whole_words)
    )
    if split.normalizer is not None:
        backend.normalizer = split.normalizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(split.steps())
    backend.decoder = decoders.ByteLevel()
    added = [
        AddedToken(token, special=kind == _CONTROL, normalized=False)
        for token, kind in zip(tokens, types, strict=True)
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    backend.add_tokens(added)
    return backend


def _words() -> list[pre_tokenizers.PreTokenizer]:
    return [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]


def _digits_and_words() -> list[pre_tokenizers.PreTokenizer]:
    return [pre_tokenizers.Digits(individual_digits=True), *_words()]


def _runs(most_digits: int) -> Callable[[], list[pre_tokenizers.PreTokenizer]]:
    """Splits as the tokenizers since GPT-4 do; they differ in how many digits stand together."""
    rule = "|".join(
        (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",  # English endings
            r"[^\r\n\p{L}\p{N}]?\p{L}+",  # letters, with one mark or space before them
            r"\p{N}" if most_digits == 1 else rf"\p{{N}}{{1,{most_digits}}}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # marks, with the line breaks behind them
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    )
    return lambda: [
        pre_tokenizers.Split(Regex(rule), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


_SPLITS = {
    "gpt-2": _Split(_words),
    "smollm": _Split(_digits_and_words),
    "starcoder": _Split(_digits_and_words),
    "llama-bpe": _Split(_runs(3), whole_words=True),
    "qwen2": _Split(_runs(1), normalizer=normalizers.NFC()),
    "deepseek-r1-qwen": _Split(_runs(1), normalizer=normalizers.NFC()),
}
"""By the value of `tokenizer.ggml.pre`."""


class _Reader:
    """Walks through a header."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def metadata(self, prefixes: tuple[str, ...]) -> dict[str, Any]:
        magic, version = self._data[:4], 0
        if magic == b"GGUF":
            self._at = 4
            version = self._scalar("<I")
        if version not in _VERSIONS:
            raise GgufError("not a GGUF file of version 2 or 3")
        self._scalar("<Q")  # tensors
        fields = {}
        for _ in range(self._scalar("<Q")):
            key = self._string()
            value = self._value(self._scalar("<I"))
            if key.startswith(prefixes):
                fields[key] = value
        return fields

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind != _ARRAY:
            raise GgufError(f"no value has the type {kind}")
        kind, count = self._scalar("<I"), self._scalar("<Q")
        if kind not in _SCALARS:
            return [self._value(kind) for _ in range(count)]
        width = struct.calcsize(_SCALARS[kind])
        start, self._at = self._at, self._at + count * width
        return [one for (one,) in struct.iter_unpack(_SCALARS[kind], self._slice(start))]

    def _string(self) -> str:
        length = self._scalar("<Q")
        start, self._at = self._at, self._at + length
        return self._slice(start).decode("utf-8", "replace")

    def _scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def _slice(self, start: int) -> bytes:
        if self._at > len(self._data):
            raise GgufError("the file ends too early")
        return self._data[start : self._at]

"""Text to token ids and back: a byte-level BPE that is exact on every string.

Digits, punctuation and white space are tokens of their own, so a number is spelled the same wherever it
stands and a quote or bracket never sticks to a word. Frequent words (tool names above all) are one token.
Special tokens have ids that no text encodes to: a tool result that spells `<|end_of_turn|>` stays text.
"""

import functools
import itertools
import json
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from codegym_jax.config import UserError
from codegym_jax.data import tokenizer_gguf
from codegym_jax.data.atomic import write_atomically

# A word takes the space before it; JSON's separators take the space behind them; all else stands alone.
_WORD = Regex(r", |: | ?[A-Za-z_]+|[^A-Za-z_]")
_NAME_PART = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=_)|(?=_)")
_BYTE_COUNT = 256
_WHOLE_WORD_SHARE = 0.75
"""Of the vocabulary left after bytes and special tokens, at most this share goes to whole words. The rest
goes to merges, which spell the words never seen, such as the tool names of held-out environments."""
_MIN_WORD_COUNT = 2
_LONGEST_CACHED = 512
_CACHE_SIZE = 32_768
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEMPLATE_FILE, _SETTINGS_FILE = "chat_template.jinja", "tokenizer_config.json"


class TokenizerError(UserError):
    """A tokenizer file that cannot be read, or settings that cannot make a tokenizer."""


class Tokenizer:
    """Encodes ordinary text, knows the added tokens by name, and decodes both.

    Wraps a byte-level BPE of the `tokenizers` library; its JSON file is that library's own. *Added* tokens
    are those that no merge makes: special ones, which no text encodes to, and markup such as `<tool_call>`,
    which `encode` finds in text and `encode_verbatim` does not.

    Args:
      backend: the tokenizer.
      chat_template: how a pretrained model frames turns, in Jinja; see `chat_template.py`.
      token_names: `eos_token` and others, as a chat template calls them.

    Raises:
      TokenizerError: when the text of a special token encodes to a special token.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        chat_template: str | None = None,
        token_names: Mapping[str, str] | None = None,
    ) -> None:
        # Special tokens spelled inside ordinary text must not become special, nor be cut, padded or prefixed.
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.chat_template = chat_template
        self.token_names = dict(token_names or {})
        added = sorted(backend.get_added_tokens_decoder().items())
        self._added_ids = {token.content: token_id for token_id, token in added}
        self._special_ids = {token.content: token_id for token_id, token in added if token.special}
        self.special_id_set = frozenset(self._special_ids.values())
        # A run of blanks may be an added token too; it is text all the same.
        markup = {name for name in self._added_ids.keys() - self._special_ids.keys() if name.strip()}
        self._verbatim = _spelling(backend, markup) if markup else backend
        self._markup = re.compile("|".join(map(re.escape, sorted(markup, key=len, reverse=True))) or "(?!)")
        self._encode_cached = functools.lru_cache(_CACHE_SIZE)(self._encode)
        for name in self._special_ids:
            if not self.special_id_set.isdisjoint(self._encode(name)):
                raise TokenizerError(f"the text {name} encodes to a special token: not a byte-level BPE")

    @functools.cached_property
    def vocabulary_size(self) -> int:
        """Ids are 0 to this minus one; a model's own vocabulary may be larger."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the special tokens, by ascending id."""
        return tuple(self._special_ids)

    @property
    def added_tokens(self) -> tuple[str, ...]:
        """Names of all added tokens but runs of blanks, by ascending id."""
        return tuple(name for name in self._added_ids if name.strip())

    @property
    def eos(self) -> str | None:
        """The token that ends what a pretrained model writes, where its files name one."""
        name = self.token_names.get("eos_token")
        return name if name in self._added_ids else None

    def special_id(self, name: str) -> int:
        """The id of a special token.

        Raises:
          TokenizerError: when there is no such token.
        """
        if name not in self._special_ids:
            known = ", ".join(self._special_ids) or "none"
            raise TokenizerError(f"the tokenizer has no special token {name}; it has: {known}")
        return self._special_ids[name]

    def added_id(self, name: str) -> int:
        """The id of an added token, special or not.

        Raises:
          TokenizerError: when there is no such token.
        """
        return self._added_ids[name] if name in self._added_ids else self.special_id(name)

    def split_markup(self, text: str) -> Iterator[str | int]:
        """The text in order: ids of the markup that it spells, and what stands between."""
        end = 0
        for match in self._markup.finditer(text):
            if match.start() > end:
                yield text[end : match.start()]
            yield self._added_ids[match[0]]
            end = match.end()
        if end < len(text):
            yield text[end:]

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text; never a special id, but the ids of markup that it spells.

        A lone surrogate, which is no Unicode character, is read as U+FFFD.
        """
        ids: list[int] = []
        for part in self.split_markup(text):
            ids += self.encode_verbatim(part) if isinstance(part, str) else (part,)
        return ids

    def encode_verbatim(self, text: str) -> Sequence[int]:
        """Ids of text from outside: no id of an added token, however the text spells one."""
        return self._encode_cached(text) if len(text) <= _LONGEST_CACHED else self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`: `decode(encode(text)) == text` but for what a pretrained tokenizer changes.

        Such a one may normalize text, or lack some bytes (SmolLM2's has no control character 4, and leaves it
        out).

        Special ids come back as their names; bytes that are not UTF-8, which only a policy can produce, as
        U+FFFD; ids without a token, of which a model's vocabulary may have some, as nothing.
        """
        return self._backend.decode(list(ids), skip_special_tokens=False)

    def to_json(self) -> str:
        """The tokenizer as JSON, in the format of the `tokenizers` library."""
        return self._backend.to_str(pretty=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON at `path`, complete or not at all; template and names, if any, go beside it."""
        path = pathlib.Path(path)
        if self.chat_template is not None:
            write_atomically(path.parent / _TEMPLATE_FILE, self.chat_template)
        if self.token_names:
            write_atomically(path.parent / _SETTINGS_FILE, json.dumps(self.token_names, indent=2))
        write_atomically(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Reads what `save` wrote, any byte-level BPE of the `tokenizers` library, or a pretrained one.

        Args:
          path: a tokenizer's JSON file, a folder with `tokenizer.json`, or a GGUF file. Beside a JSON file,
            `tokenizer_config.json` and `chat_template.jinja` are read where they are.

        Raises:
          TokenizerError: when there is no such file, or it holds no tokenizer.
        """
        path = pathlib.Path(path)
        if path.is_dir():
            path /= "tokenizer.json"
        if not path.is_file():
            raise TokenizerError(f"{path}: no such tokenizer file")
        try:
            if path.suffix == ".gguf":
                backend, template, names = tokenizer_gguf.read(path)
                return cls(backend, chat_template=template, token_names=names)
        except tokenizer_gguf.GgufError as error:
            raise TokenizerError(f"{path}: {error}") from error
        fields = _read_object(path)
        if "model" not in fields:
            raise TokenizerError(f"{path}: not a tokenizer of the tokenizers library (no key 'model')")
        kind = fields["model"].get("type", "BPE")
        if kind != "BPE":
            raise TokenizerError(f"{path}: the tokenizer must be a BPE, not {kind}")
        template, names = _read_settings(path.parent)
        backend = tokenizers.Tokenizer.from_str(json.dumps(fields))
        return cls(backend, chat_template=template, token_names=names)

    def _encode(self, text: str) -> tuple[int, ...]:
        text = _SURROGATE.sub("\ufffd", text)
        return tuple(self._verbatim.encode(text, add_special_tokens=False).ids)


def _spelling(backend: tokenizers.Tokenizer, names: Set[str]) -> tokenizers.Tokenizer:
    """The same tokenizer, except that it spells some added tokens by merges, as it spells special ones."""
    fields = json.loads(backend.to_str())
    for token in fields["added_tokens"]:
        token["special"] = token["special"] or token["content"] in names
    other = tokenizers.Tokenizer.from_str(json.dumps(fields))
    other.encode_special_tokens = True
    return other


def _read_object(path: pathlib.Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise TokenizerError(f"{path}: not a tokenizer of the tokenizers library (no JSON object)")
    return fields


def _read_settings(folder: pathlib.Path) -> tuple[str | None, dict[str, str]]:
    """The chat template and the names of tokens beside a tokenizer, where `transformers` writes them."""
    path = folder / _SETTINGS_FILE
    settings = _read_object(path) if path.is_file() else {}
    names = {}
    for key, value in settings.items():
        name = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(name, str):
            names[key] = name
    template = settings.get("chat_template")
    if isinstance(template, list):  # several; the one for tools is the one that we need
        by_name = {one["name"]: one["template"] for one in template}
        template = by_name.get("tool_use", by_name.get("default"))
    if (folder / _TEMPLATE_FILE).is_file():
        template = (folder / _TEMPLATE_FILE).read_text(encoding="utf-8")
    return template, names


def train_bpe(texts: Iterable[str], *, max_vocabulary: int, special_tokens: Sequence[str]) -> Tokenizer:
    """Builds a vocabulary from texts; the same texts in the same order give the same tokenizer.

    Ids: the 256 bytes, then whole words, then products of merges, then the special tokens. Words that save
    most tokens come first: count x (bytes - 1). A word of the vocabulary is looked up whole before any
    merge applies, so it costs one id and not one for each merge on the way.

    Args:
      texts: ordinary text as it will be encoded; what is frequent here becomes short.
      max_vocabulary: ids in all, special ones included.
      special_tokens: their names; none is ever the encoding of a text.

    Raises:
      TokenizerError: when `max_vocabulary` has no room for the bytes and special tokens, or two special
        tokens are equal.
    """
    if len(set(special_tokens)) != len(special_tokens):
        raise TokenizerError(f"special tokens must differ, got {', '.join(special_tokens)}")
    room = max_vocabulary - _BYTE_COUNT - len(special_tokens)
    if room < 0:
        least = _BYTE_COUNT + len(special_tokens)
        raise TokenizerError(f"max_vocabulary must be at least {least}, got {max_vocabulary}")
    counts = _count_words(texts)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = _best_words(counts, int(room * _WHOLE_WORD_SHARE))
    vocabulary = {token: token_id for token_id, token in enumerate([*alphabet, *words])}
    merges = []
    for left, right in _learn_merges(counts, alphabet, room):
        product = left + right
        if product not in vocabulary:
            if len(vocabulary) >= _BYTE_COUNT + room:
                break
            vocabulary[product] = len(vocabulary)
        merges.append((left, right))
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    backend.pre_tokenizer = _pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special_tokens])
    return Tokenizer(backend)


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(_WORD, behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """Words (in the byte alphabet) with their counts, in the order of first appearance."""
    split = _pre_tokenizer()
    counts: Counter[str] = Counter()
    for text, count in Counter(texts).items():
        for word, _ in split.pre_tokenize_str(_SURROGATE.sub("\ufffd", text)):
            counts[word] += count
    return counts


def _best_words(counts: Counter[str], limit: int) -> list[str]:
    longer = [word for word, count in counts.items() if len(word) > 1 and count >= _MIN_WORD_COUNT]
    return sorted(longer, key=lambda word: (-counts[word] * (len(word) - 1), word))[:limit]


def _learn_merges(counts: Counter[str], alphabet: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """At least as many BPE merges as could fit, most frequent pair first.

    None crosses the seam of a name such as `GetItem`, so that a new name is spelled in parts of known ones.
    """
    model = tokenizers.Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * limit + len(alphabet),  # some products are whole words already and cost nothing
        initial_alphabet=list(alphabet),
        min_frequency=_MIN_WORD_COUNT,
        show_progress=False,
    )
    parts: Counter[str] = Counter()
    for word, count in counts.items():
        for part in _NAME_PART.split(word):
            parts[part] += count
    stream = itertools.chain.from_iterable(itertools.repeat(part, parts[part]) for part in sorted(parts))
    model.train_from_iterator(stream, trainer)
    return [(left, right) for left, right in json.loads(model.to_str())["model"]["merges"]]

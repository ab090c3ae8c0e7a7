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
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from codegym_jax.config import UserError
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


class TokenizerError(UserError):
    """A tokenizer file that cannot be read, or settings that cannot make a tokenizer."""


class Tokenizer:
    """Encodes ordinary text, knows the special tokens by name, and decodes both.

    Wraps a tokenizer of the `tokenizers` library; its JSON file is that library's own.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        # Special tokens spelled inside ordinary text must not become special.
        backend.encode_special_tokens = True
        self._backend = backend
        self._special_ids = {
            token.content: token_id
            for token_id, token in sorted(backend.get_added_tokens_decoder().items())
            if token.special
        }
        self.special_id_set = frozenset(self._special_ids.values())
        self._encode_cached = functools.lru_cache(_CACHE_SIZE)(self._encode)

    @property
    def vocabulary_size(self) -> int:
        """Ids are 0 to this minus one."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the special tokens, by ascending id."""
        return tuple(self._special_ids)

    def special_id(self, name: str) -> int:
        """The id of a special token.

        Raises:
          TokenizerError: when there is no such token.
        """
        if name not in self._special_ids:
            known = ", ".join(self._special_ids) or "none"
            raise TokenizerError(f"the tokenizer has no special token {name}; it has: {known}")
        return self._special_ids[name]

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text; never a special id.

        A lone surrogate, which is no Unicode character, is read as U+FFFD.
        """
        return list(self._encode_cached(text) if len(text) <= _LONGEST_CACHED else self._encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`: `decode(encode(text)) == text`.

        Special ids come back as their names; bytes that are not UTF-8, which only a policy can produce, as
        U+FFFD.
        """
        return self._backend.decode(list(ids), skip_special_tokens=False)

    def to_json(self) -> str:
        """The tokenizer as JSON, in the format of the `tokenizers` library."""
        return self._backend.to_str(pretty=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON at `path`, complete or not at all."""
        write_atomically(pathlib.Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Reads what `save` wrote, or any JSON file of the `tokenizers` library.

        Raises:
          TokenizerError: when there is no such file, or it holds no tokenizer.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            raise TokenizerError(f"{path}: no such tokenizer file")
        text = path.read_text(encoding="utf-8")
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise TokenizerError(f"{path}: not JSON ({error})") from error
        if not isinstance(fields, dict) or "model" not in fields:
            raise TokenizerError(f"{path}: not a tokenizer of the tokenizers library (no key 'model')")
        return cls(tokenizers.Tokenizer.from_str(text))

    def _encode(self, text: str) -> tuple[int, ...]:
        text = _SURROGATE.sub("\ufffd", text)
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)


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

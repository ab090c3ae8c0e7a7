"""The header of a GGUF file gives the tokenizer that the same tokens, merges and rule give by hand."""

import struct
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers

from codegym_jax.data.tokenizer import Tokenizer, TokenizerError
from codegym_jax.data.tokenizer_gguf import GgufError, read_metadata

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ["1 2", "12 3", "1 0", "Ġ a", "Ġa b", "a b", "' s", "' S", "Ġ Ġ", "x 1", "! Ċ", "- x"]
WORDS = ["".join(merge.split()) for merge in MERGES]
TOKENS = ["<|end|>", *BYTES, *WORDS, "<tool_call>", "<|pad|>"]
TYPES = [3, *[1] * (len(BYTES) + len(WORDS)), 4, 3]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
RULES = {"gpt-2": [GPT2], "smollm": [r"\p{N}", GPT2], "llama-bpe": [GPT4 % "{1,3}"], "qwen2": [GPT4 % ""]}
"""As llama.cpp has them: each rule splits what the one before it left."""
TEXT = st.text(st.sampled_from("ab x12340'sSd!-\n\r\t .é日²½🙂<>")) | st.text(
    st.characters(exclude_categories=["Cs"])
)


def packed(value) -> bytes:
    """A value as GGUF holds it, behind its type."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<Ii", 5, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + packed_text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(packed_text, value))
        case _:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def packed_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write(path: Path, fields: dict, *, magic: bytes = b"GGUF", version: int = 3) -> Path:
    pairs = b"".join(packed_text(key) + packed(value) for key, value in fields.items())
    path.write_bytes(magic + struct.pack("<IQQ", version, 0, len(fields)) + pairs)
    return path


def fields(**changes) -> dict:
    """Keys of a tokenizer; None leaves one out."""
    names = {"model": "gpt2", "pre": "smollm", "tokens": TOKENS, "token_type": TYPES, "merges": MERGES}
    ggml = {
        f"tokenizer.ggml.{key}": value for key, value in ({**names, **changes}).items() if value is not None
    }
    return {"general.name": "toy", "general.scale": 0.5, **ggml}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("gguf")
    return {rule: Tokenizer.load(write(folder / f"{rule}.gguf", fields(pre=rule))) for rule in RULES}


def by_hand(rule: str) -> tokenizers.Tokenizer:
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    pairs = [tuple(merge.split()) for merge in MERGES]
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=rule == "llama-bpe")
    )
    splits = [pre_tokenizers.Split(Regex(one), behavior="isolated") for one in RULES[rule]]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, last])
    backend.decoder = decoders.ByteLevel()
    return backend


@pytest.mark.parametrize("rule", list(RULES))
@given(TEXT)
def test_each_rule_splits_as_published(loaded, rule, text):
    text = unicodedata.normalize("NFC", text)
    assert loaded[rule].encode(text) == by_hand(rule).encode(text).ids
    assert loaded[rule].decode(loaded[rule].encode(text)) == text


def test_digits_stand_together_as_each_model_has_them(loaded):
    def spelled(rule: str) -> list[str]:
        return [loaded[rule].decode([one]) for one in loaded[rule].encode("1234")]

    assert spelled("smollm") == ["1", "2", "3", "4"]
    assert spelled("qwen2") == ["1", "2", "3", "4"]
    assert spelled("llama-bpe") == ["123", "4"]
    assert spelled("gpt-2") == ["123", "4"]


def test_qwen_normalizes(loaded):
    assert loaded["qwen2"].encode("e\u0301") == loaded["qwen2"].encode("é")
    assert loaded["smollm"].encode("e\u0301") != loaded["smollm"].encode("é")


def test_control_tokens_are_special_and_others_are_markup(loaded):
    tokenizer = loaded["smollm"]
    assert tokenizer.special_tokens == ("<|end|>", "<|pad|>")
    assert tokenizer.special_id("<|pad|>") == len(TOKENS) - 1
    assert tokenizer.encode("<tool_call>") == [TOKENS.index("<tool_call>")]
    assert len(tokenizer.encode_verbatim("<tool_call>")) == len("<tool_call>")
    assert tokenizer.vocabulary_size == len(TOKENS)


def test_names_and_template_come_along(tmp_path):
    named = fields(eos_token_id=0, padding_token_id=len(TOKENS) - 1, bos_token_id=-1, unknown_token_id=10**6)
    path = write(tmp_path / "a.gguf", named | {"tokenizer.chat_template": "plain"})
    assert Tokenizer.load(path).token_names == {"eos_token": "<|end|>", "pad_token": "<|pad|>"}
    assert Tokenizer.load(path).eos == "<|end|>"
    assert Tokenizer.load(path).chat_template == "plain"
    path = write(tmp_path / "b.gguf", named | {"tokenizer.chat_template.tool_use": "tools"})
    assert Tokenizer.load(path).chat_template == "tools"


def test_metadata_of_every_type(tmp_path):
    written = {
        "a.flag": True,
        "a.count": -3,
        "a.scale": 0.5,
        "a.name": "é",
        "b.many": [1, 2],
        "b.words": ["x", ""],
    }
    path = write(tmp_path / "a.gguf", written)
    assert read_metadata(path) == written
    assert read_metadata(path, ("a.",)) == {key: value for key, value in written.items() if key < "b"}


@given(st.data())
def test_a_file_that_ends_too_early_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "cut.gguf"
    whole = write(path, fields()).read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(GgufError):
        read_metadata(path)
    with pytest.raises(TokenizerError, match=r"cut\.gguf: "):
        Tokenizer.load(path)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"magic": b"GGML"}, "not a GGUF file of version 2 or 3"),
        ({"version": 1}, "not a GGUF file of version 2 or 3"),
        ({"fields": fields(model="llama")}, "must be a byte-level BPE"),
        ({"fields": fields(pre="viking")}, "must be one of gpt-2, smollm, .*, not 'viking'"),
        ({"fields": fields(pre=None)}, "not 'default'"),
        ({"fields": fields(merges=None)}, r"no key tokenizer\.ggml\.merges"),
        ({"fields": fields(merges=["ab"])}, "two tokens in each merge"),
        ({"fields": fields(token_type=TYPES[1:])}, "as many token types as tokens"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, written, message):
    path = write(tmp_path / "a.gguf", **{"fields": fields(), **written})
    with pytest.raises(TokenizerError, match=rf"a\.gguf: .*{message}"):
        Tokenizer.load(path)


def test_a_type_that_no_value_has_is_refused(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + packed_text("key") + struct.pack("<I", 13))
    with pytest.raises(GgufError, match="no value has the type 13"):
        read_metadata(path)

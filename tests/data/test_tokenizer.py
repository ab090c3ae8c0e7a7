"""Every string survives; digits and marks stand alone; frequent words are one token; no text is special."""

import json
import subprocess
import sys

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, models

from codegym_jax.data.tokenizer import Tokenizer, TokenizerError, train_bpe
from tests.data.toy_chat import MARKUP, make_tokenizer

SPECIAL = ("<|bos|>", "<|end_of_turn|>")
NAMES = ("GetArrItem", "GetNumberItem", "IsGreater", "Done")
TEXTS = [f"{name}({first},-{second})" for name in NAMES for first in range(12) for second in range(7)] + [
    "below threshold",
    "below threshold",
    '["true", "false"]',
    '["true", "false"]',
]
TOKENIZER = train_bpe(TEXTS, max_vocabulary=320, special_tokens=SPECIAL)


def pieces(text: str, tokenizer: Tokenizer = TOKENIZER) -> list[str]:
    return [tokenizer.decode([token_id]) for token_id in tokenizer.encode(text)]


@given(st.text())
def test_any_text_survives(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.text(alphabet='GetArrItemé0123456789(),:"[] \n<|>_'))
def test_text_like_ours_survives(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["\x00\x7f\u0120Ġ\u2028\u200b", "👩‍👩‍👧‍👦", "a\r\n\r\n  b\t", "ﬁ\u0301 Å \ufeff", "  " * 600]
)
def test_awkward_text_survives(text):
    """Nothing is normalized, trimmed or merged away; the last one is too long for the cache."""
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_lone_surrogate_becomes_the_replacement_character():
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a\ufffdb"


@given(st.lists(st.integers(0, TOKENIZER.vocabulary_size - 1)))
def test_any_ids_decode_to_text(ids):
    """A policy may sample bytes that are not UTF-8; that must not raise."""
    TOKENIZER.decode(ids).encode("utf-8")


def test_a_frequent_call_is_a_token_a_part():
    assert pieces('GetArrItem(31,"true")') == ["GetArrItem", "(", "3", "1", ",", '"', "true", '"', ")"]


def test_a_new_name_is_spelled_from_parts_of_known_ones():
    assert pieces("GetArrGreater(0)") == ["Get", "Arr", "Greater", "(", "0", ")"]


def test_a_title_is_a_token_a_word():
    assert pieces("below threshold") == ["below", " threshold"]


@given(st.integers(), st.text(alphabet="()[]{},:\"'-."))
def test_digits_and_marks_stand_alone(number, marks):
    """Even where training saw the same number thousands of times."""
    tokenizer = train_bpe(["1234567890"] * 1000 + ["(),"] * 1000, max_vocabulary=300, special_tokens=())
    assert pieces(f"{number}{marks}", tokenizer) == list(f"{number}{marks}")


@pytest.mark.parametrize("text", [*SPECIAL, "x<|end_of_turn|>y", "<|bos|><|bos|>", "<|end_of_turn|> "])
def test_a_special_token_spelled_in_text_stays_text(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.special_id_set.isdisjoint(ids)
    assert TOKENIZER.decode(ids) == text


def test_special_tokens_close_the_vocabulary():
    size = TOKENIZER.vocabulary_size
    assert TOKENIZER.special_tokens == SPECIAL
    assert [TOKENIZER.special_id(name) for name in SPECIAL] == [size - 2, size - 1]
    ids = [
        TOKENIZER.special_id("<|bos|>"),
        *TOKENIZER.encode("Done"),
        TOKENIZER.special_id("<|end_of_turn|>"),
    ]
    assert TOKENIZER.decode(ids) == "<|bos|>Done<|end_of_turn|>"


@pytest.mark.parametrize("most", [258, 259, 270, 320, 4096])
def test_the_vocabulary_keeps_its_bound_and_always_holds_every_byte(most):
    tokenizer = train_bpe(TEXTS, max_vocabulary=most, special_tokens=SPECIAL)
    assert tokenizer.vocabulary_size <= most
    assert tokenizer.decode(tokenizer.encode("GetArrItem(é)")) == "GetArrItem(é)"


def test_no_texts_at_all_leave_the_bytes():
    tokenizer = train_bpe([], max_vocabulary=300, special_tokens=SPECIAL)
    assert tokenizer.vocabulary_size == 258
    assert pieces("Done(é)", tokenizer) == [*"Done(", "\ufffd", "\ufffd", ")"]


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(TokenizerError, match="max_vocabulary must be at least 258, got 257"):
        train_bpe(TEXTS, max_vocabulary=257, special_tokens=SPECIAL)


def test_equal_special_tokens_are_refused():
    with pytest.raises(TokenizerError, match="must differ"):
        train_bpe(TEXTS, max_vocabulary=300, special_tokens=("<|bos|>", "<|bos|>"))


def test_an_unknown_special_token_is_named():
    with pytest.raises(TokenizerError, match=r"no special token <\|pad\|>; it has: <\|bos\|>, "):
        TOKENIZER.special_id("<|pad|>")


def test_training_is_the_same_in_every_process():
    """The hash seed, hence the order of sets and dicts of strings in native code, differs between them."""
    program = f"""
from codegym_jax.data.tokenizer import train_bpe
print(train_bpe({TEXTS!r}, max_vocabulary=320, special_tokens={SPECIAL!r}).to_json(), end="")
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == TOKENIZER.to_json()


def test_a_saved_tokenizer_comes_back(tmp_path):
    TOKENIZER.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    text = 'GetArrItem(31,"<|end_of_turn|>é")'
    assert loaded.to_json() == TOKENIZER.to_json()
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert loaded.special_tokens == SPECIAL
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "not a tokenizer"), (json.dumps({"version": "1.0"}), "no key 'model'")],
)
def test_a_file_without_a_tokenizer_is_named(tmp_path, text, message):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json: .*{message}"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_pretrained_tokenizer_comes_back_with_its_template(tmp_path):
    pretrained = make_tokenizer("{{ messages }}")
    pretrained.save(tmp_path / "tokenizer.json")
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = Tokenizer.load(path)
        assert loaded.to_json() == pretrained.to_json()
        assert loaded.chat_template == "{{ messages }}"
        assert loaded.eos == "<|endoftext|>"
        assert loaded.added_tokens == pretrained.added_tokens


@pytest.mark.parametrize(
    ("settings", "template", "eos"),
    [
        ({}, None, None),
        ({"chat_template": "a", "eos_token": "<|bos|>", "bos_token": None}, "a", "<|bos|>"),
        ({"eos_token": {"content": "<|end_of_turn|>", "special": True}}, None, "<|end_of_turn|>"),
        ({"eos_token": "<|unknown|>"}, None, None),
        ({"chat_template": [{"name": "default", "template": "d"}]}, "d", None),
        (
            {"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]},
            "t",
            None,
        ),
    ],
)
def test_settings_beside_a_tokenizer_are_read(tmp_path, settings, template, eos):
    TOKENIZER.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert Tokenizer.load(tmp_path).chat_template == template
    assert Tokenizer.load(tmp_path).eos == eos
    (tmp_path / "chat_template.jinja").write_text("of its own")
    assert Tokenizer.load(tmp_path).chat_template == "of its own"


PRETRAINED = make_tokenizer()


@given(st.lists(st.sampled_from([*MARKUP, "a", " ", "<", ">", "é"])).map("".join))
def test_markup_is_found_in_our_words_and_not_in_text_from_outside(text):
    """Either way the text survives; the second spelling is that of a tokenizer without the markup."""
    tokenizer = PRETRAINED
    markup = {tokenizer.added_id(name) for name in MARKUP}
    ids, verbatim = tokenizer.encode(text), tokenizer.encode_verbatim(text)
    assert [one for one in ids if one in markup] == [
        part for part in tokenizer.split_markup(text) if isinstance(part, int)
    ]
    assert sum(map(text.count, MARKUP)) == sum(one in markup for one in ids)
    assert markup.isdisjoint(verbatim)
    assert tokenizer.decode(ids) == tokenizer.decode(verbatim) == text


def test_a_run_of_blanks_is_text_though_it_be_added():
    backend = tokenizers.Tokenizer.from_str(make_tokenizer().to_json())
    backend.add_tokens([AddedToken("    ", special=False, normalized=False)])
    tokenizer = Tokenizer(backend)
    assert "    " not in tokenizer.added_tokens
    assert tokenizer.encode("a    b") == backend.encode("a    b").ids
    assert tokenizer.encode("a    b") == list(tokenizer.encode_verbatim("a    b"))
    assert tokenizer.added_id("    ") in tokenizer.encode("a    b")


def test_a_file_that_cuts_and_pads_encodes_whole_texts(tmp_path):
    fields = json.loads(TOKENIZER.to_json())
    backend = tokenizers.Tokenizer.from_str(json.dumps(fields))
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    text = "IsGreater(10, 11)"
    assert Tokenizer.load(tmp_path).encode(text) == TOKENIZER.encode(text)


def test_a_tokenizer_that_reads_special_tokens_in_text_is_refused(tmp_path):
    backend = tokenizers.Tokenizer(models.BPE(vocab={"<s>": 0, "a": 1}, merges=[], ignore_merges=True))
    backend.add_special_tokens(["<s>"])
    with pytest.raises(TokenizerError, match="the text <s> encodes to a special token"):
        Tokenizer(backend)
    words = tokenizers.Tokenizer(models.WordLevel(vocab={"a": 0}, unk_token="a"))
    (tmp_path / "tokenizer.json").write_text(words.to_str())
    with pytest.raises(TokenizerError, match="must be a BPE, not WordLevel"):
        Tokenizer.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"none\.json: no such tokenizer file"):
        Tokenizer.load(tmp_path / "none.json")

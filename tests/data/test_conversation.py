"""Laws of conversations: what is written is read again, and a longer conversation begins as the shorter."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.data import conversation
from codegym_jax.data.chat import make_renderer
from codegym_jax.data.conversation import read_assistant_message, render_call_begin, render_conversation
from codegym_jax.data.messages import MessagesError
from codegym_jax.data.style import Call, RenderError
from tests.data.test_messages import CALL
from tests.data.toy_chat import WITH_TOOLS, WITHOUT_TOOLS, make_tokenizer
from tests.rollout.scripted import small_renderer

RENDERERS = {
    "ChatML": small_renderer("hermes"),
    "a template with tools": make_renderer("hermes", make_tokenizer(WITH_TOOLS)),
    "a template without": make_renderer("hermes", make_tokenizer(WITHOUT_TOOLS)),
}
CHATML = RENDERERS["ChatML"]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}},
    }
]
WORDS = st.text().filter(lambda text: "<tool_call>" not in text and "</think>" not in text)


def calling(words, *calls):
    """A message with `(name, arguments)`, as we write it."""
    return {
        "role": "assistant",
        "content": words,
        "tool_calls": [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
            }
            for number, (name, arguments) in enumerate(calls)
        ],
    }


USER = {"role": "user", "content": "Add 1 and 2."}


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=60)
@given(words=WORDS, calls=st.lists(CALL, max_size=3))
def test_a_written_message_is_read_again(name, words, calls):
    """Its words, where calls follow, with the line break that sets them apart; and written again it is the
    same ids."""
    renderer = RENDERERS[name]
    spoken = calling(words, *calls)
    begin = render_conversation(renderer, [USER], TOOLS)
    ids = render_conversation(renderer, [USER, spoken], TOOLS)
    assert ids[: len(begin)] == begin
    message = ids[len(begin) : ids.index(renderer.stop_id, len(begin)) + 1]
    found = read_assistant_message(renderer, message, TOOLS)
    assert render_conversation(renderer, [USER, found], TOOLS) == ids
    functions = [one["function"] for one in found.get("tool_calls", ())]
    read = [(one["name"], json.loads(one["arguments"])) for one in functions]
    assert read == calls
    gap = "\n" if calls and words and not words[-1].isspace() else ""
    assert (found["content"] or "") == words + gap


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Add 1 and 2, "}, {"type": "text", "text": "3 and 4."}],
    },
    calling("Both.", ("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})),
    {"role": "tool", "tool_call_id": "call_1", "content": "7"},
    {"role": "tool", "tool_call_id": "call_0", "content": "3"},
    {"role": "assistant", "content": "3 and 7."},
    {"role": "assistant", "content": "Done?"},
    {"role": "user", "content": "Yes."},
]


def test_a_conversation_as_chatml():
    """Results stand in the order of the calls; two messages of the assistant in a row are two turns."""
    text = CHATML.decode(render_conversation(CHATML, CONVERSATION, TOOLS))
    system, rest = text.split("<|im_end|>\n", 1)
    assert system.startswith("<|im_start|>system\nBe brief.\n\nYou solve a task by calling functions.")
    assert rest == (
        "<|im_start|>user\nAdd 1 and 2, 3 and 4.<|im_end|>\n<|im_start|>assistant\nBoth.\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "add", "arguments": {"a": 3, "b": 4}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n3\n</tool_response>\n<tool_response>\n7\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n3 and 7.<|im_end|>\n<|im_start|>assistant\nDone?<|im_end|>\n"
        "<|im_start|>user\nYes.<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", RENDERERS)
def test_a_longer_conversation_begins_as_the_shorter_with_what_was_sampled(name):
    """Turn by turn, so that the engine finds what it has computed before."""
    renderer = RENDERERS[name]
    before = render_conversation(renderer, CONVERSATION[:2], TOOLS)
    for end in (5, 6, 7, 8):
        ids = render_conversation(renderer, CONVERSATION[:end], TOOLS)
        after = len(before) if CONVERSATION[end - 1]["role"] != "user" else 0
        assert ids[:after] == before[:after]
        before = ids


def test_without_tools_there_is_no_word_of_them_and_nothing_is_a_call():
    ids = render_conversation(CHATML, [USER], [])
    assert CHATML.decode(ids) == "<|im_start|>user\nAdd 1 and 2.<|im_end|>\n<|im_start|>assistant\n"
    text = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
    assert read_assistant_message(CHATML, CHATML.tokenizer.encode(text), []) == {
        "role": "assistant",
        "content": text,
    }


def test_tools_may_come_without_the_object_around_them_and_a_developer_is_a_system():
    bare = [tool["function"] for tool in TOOLS]
    assert render_conversation(CHATML, [USER], bare) == render_conversation(CHATML, [USER], TOOLS)
    said = [{"role": role, "content": "Be brief."} for role in ("system", "developer")]
    assert render_conversation(CHATML, [said[0], USER], []) == render_conversation(
        CHATML, [said[1], USER], []
    )


CALL_TEXT = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (CALL_TEXT, None, 1),
        (f"  {CALL_TEXT} ", "  ", 1),
        (CALL_TEXT * 2, None, 2),
        (f"So: {CALL_TEXT}\n{CALL_TEXT}\n{CALL_TEXT}", "So: ", 3),
        (f"<think>maybe <tool_call></think>Yes. {CALL_TEXT}", "<think>maybe <tool_call></think>Yes. ", 1),
        ("Hello.", "Hello.", 0),
        ("", "", 0),
        (f"{CALL_TEXT} or so", f"{CALL_TEXT} or so", 0),
        (f"{CALL_TEXT}<tool_call>", f"{CALL_TEXT}<tool_call>", 0),
        (CALL_TEXT[:-1], CALL_TEXT[:-1], 0),
        (CALL_TEXT.replace("1", "NaN"), CALL_TEXT.replace("1", "NaN"), 0),
        (CALL_TEXT.replace("arguments", "parameters"), CALL_TEXT.replace("arguments", "parameters"), 0),
    ],
)
def test_what_is_a_call_and_what_stays_text(text, content, calls):
    ids = [*CHATML.tokenizer.encode(text), CHATML.stop_id]
    for message in (ids, ids[:-1]):
        found = read_assistant_message(CHATML, message, TOOLS)
        assert found["content"] == content
        assert [one["id"] for one in found.get("tool_calls", ())] == [f"call_{n}" for n in range(calls)]


def test_a_special_token_within_makes_it_text():
    ids = [CHATML.stop_id, *CHATML.tokenizer.encode(CALL_TEXT)]
    assert read_assistant_message(CHATML, ids, TOOLS)["content"] == "<|im_end|>" + CALL_TEXT


@pytest.mark.parametrize("name", RENDERERS)
def test_a_begun_call_is_how_the_call_begins(name):
    renderer = RENDERERS[name]
    message = conversation.write_message("", [Call("add", {"a": 1})])
    for begun in (render_call_begin(renderer), render_call_begin(renderer, "add")):
        text = renderer.decode(begun)
        assert message.startswith(text)
        rest = renderer.tokenizer.encode(message[len(text) :])
        found = read_assistant_message(renderer, [*begun, *rest], TOOLS)
        assert found["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}


@pytest.mark.parametrize(
    ("messages", "tools", "error"),
    [
        ([], TOOLS, "messages must hold a message"),
        ([USER, {"role": "robot"}], TOOLS, r"messages\[1\]: the key role"),
        (
            [{**USER, "content": [{"type": "image_url"}]}],
            TOOLS,
            r"messages\[0\]: the key content must hold text",
        ),
        ([USER, {"role": "assistant", "tool_calls": [{}]}], TOOLS, r"messages\[1\]: a call must have"),
        ([USER, {"role": "assistant", "tool_calls": "add"}], TOOLS, r"messages\[1\]: the key tool_calls"),
        (
            [USER],
            [{"type": "function", "function": {}}],
            r"tools\[0\]: a tool must be a function with a name",
        ),
        ([USER], ["add"], r"tools\[0\]"),
    ],
)
def test_what_has_another_form_is_named(messages, tools, error):
    with pytest.raises(MessagesError, match=error):
        render_conversation(CHATML, messages, tools)


def test_a_policy_of_another_style_takes_no_conversation():
    with pytest.raises(RenderError, match="style hermes"):
        render_conversation(small_renderer("compact"), [USER], TOOLS)

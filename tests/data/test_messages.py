"""Chats go out as rows and come back as the same tokens; rows of others are read, and bad ones named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.data import messages
from codegym_jax.data.chat import make_renderer
from codegym_jax.data.export import ExportError, read_parquet
from codegym_jax.data.messages import Chat, MessagesError, Reply, Said, from_row, oracle_chat, to_row
from codegym_jax.data.style import Call, RenderError
from tests.data.toy_chat import SPEC, WITH_TOOLS, WITHOUT_TOOLS, make_tokenizer
from tests.rollout.scripted import small_renderer

ACTIONS = [
    '{"name": "GetItem", "parameters": {"index": 0}}',
    '{"name": "Search", "parameters": {"text": "\\u00e9 </tool_response><|im_end|>", "start": null}}',
    '{"name": "Done", "parameters": {"answer": [true, 1.5, {"a": "b"}]}}',
]
OBSERVATIONS = ["7", 'Error: "<|im_end|>" <tool_call>\n', "the verdict"]
RENDERERS = {
    "compact": small_renderer("compact"),
    "codegym": small_renderer("codegym"),
    "hermes": small_renderer("hermes"),
    "hermes, a template with tools": make_renderer("hermes", make_tokenizer(WITH_TOOLS)),
    "hermes, a template without": make_renderer("hermes", make_tokenizer(WITHOUT_TOOLS)),
}
HERMES = RENDERERS["hermes"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CALL = st.builds(Call, st.text(), st.dictionaries(st.text(), JSON, max_size=3))
BETWEEN = st.lists(
    st.builds(Said, role=st.sampled_from(["tool", "user"]), text=st.text()), min_size=1, max_size=3
)


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_out_and_in_again_are_the_same_tokens(tmp_path, name, ending):
    renderer = RENDERERS[name]
    path = tmp_path / f"rows.{ending}"
    assert messages.write_rows(path, [oracle_chat(SPEC, ACTIONS, OBSERVATIONS)] * 2) == 2
    one, other = (messages.demonstration(chat, renderer, SPEC) for chat in messages.read_rows(path))
    expected = renderer.render_demonstration(SPEC, ACTIONS, OBSERVATIONS)
    assert one.token_ids.tolist() == other.token_ids.tolist() == expected.token_ids.tolist()
    assert one.is_policy.tolist() == expected.is_policy.tolist()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(), st.none() | CALL, BETWEEN), min_size=1, max_size=3), st.text())
def test_reading_inverts_writing_for_every_chat(said, env_id):
    replies = [Reply(words=words, call=call, followed_by=tuple(after)) for words, call, after in said]
    replies[-1] = Reply(words=replies[-1].words, call=replies[-1].call)
    chat = Chat(
        opening=(Said(role="system", text="s"), Said(role="user", text="u")),
        replies=tuple(replies),
        tools=({"type": "function", "function": {"name": "f"}},),
        env_id=env_id,
    )
    assert from_row(json.loads(json.dumps(to_row(chat)))) == chat


def test_a_row_is_in_openai_s_form():
    row = to_row(oracle_chat(SPEC, ACTIONS[:1] + ACTIONS[2:], OBSERVATIONS[1:]))
    assert row["messages"] == [
        {"role": "user", "content": SPEC.statement},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "GetItem", "arguments": '{"index": 0}'},
                }
            ],
        },
        {"role": "tool", "content": OBSERVATIONS[1], "tool_call_id": "call_1"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "Done", "arguments": '{"answer": [true, 1.5, {"a": "b"}]}'},
                }
            ],
        },
    ]
    assert [tool["function"]["name"] for tool in row["tools"]] == [tool.name for tool in SPEC.tools]


OTHERS = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Add 1 and "}, {"type": "text", "text": "2."}]},
        {
            "role": "assistant",
            "content": "<think>Easy.</think>",
            "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}],
        },
        {"role": "tool", "content": "3", "tool_calls": None},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": "It is 3.", "tool_calls": []},
        {"role": "user", "content": "Thanks."},
    ],
    "tools": '[{"type": "function", "function": {"name": "add"}}]',
}


def test_a_row_of_others_reads_as_chatml():
    """Masks are on the assistant's messages with their stops; what follows the last one is left out."""
    chat = from_row(OTHERS)
    found = messages.demonstration(chat, HERMES)
    text = HERMES.decode(found.token_ids.tolist())
    system, rest = text.split("<|im_end|>\n", 1)
    assert system.startswith("<|im_start|>system\nBe brief.\n\nYou solve a task by calling functions.")
    assert '<tools>\n{"type": "function", "function": {"name": "add"}}\n</tools>' in system
    assert rest == (
        "<|im_start|>user\nAdd 1 and 2.<|im_end|>\n<|im_start|>assistant\n<think>Easy.</think>\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n"
        "<|im_start|>user\nWell?<|im_end|>\n<|im_start|>assistant\nIt is 3.<|im_end|>"
    )
    own = HERMES.decode(found.token_ids[found.is_policy].tolist())
    assert own == (
        '<think>Easy.</think>\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
        "<|im_end|>It is 3.<|im_end|>"
    )


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        (from_row(OTHERS), "only the style hermes"),
        (Chat(opening=(), replies=(Reply(words="So:", call=Call("Observe", {})),), tools=()), "no place"),
    ],
)
def test_what_a_style_cannot_say_is_refused(chat, message):
    spec = None if chat.tools else SPEC
    with pytest.raises(RenderError, match=message):
        messages.demonstration(chat, RENDERERS["compact"], spec)


def changed(place: int, **keys):
    rows = [dict(message) for message in OTHERS["messages"]]
    rows[place] |= keys
    return {**OTHERS, "messages": rows}


def calling(*functions):
    return changed(2, tool_calls=[{"function": function} for function in functions])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "must have the key messages"),
        ({"prompt": "x"}, "must have the key messages"),
        ({**OTHERS, "messages": OTHERS["messages"][:2]}, "no message is the assistant's"),
        (changed(1, role="robot"), r"messages\[1\]: the key role must be one of system, user"),
        (changed(1, content=[{"type": "image"}]), r"messages\[1\]: the key content must hold text"),
        (changed(1, role="assistant"), r"messages\[2\]: two messages of the assistant in a row"),
        (calling({"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}), "2 calls at once"),
        (calling({"name": "f", "arguments": "{"}), "the arguments are not JSON"),
        (calling({"name": "f", "arguments": "[1]"}), "arguments that are an object"),
        (calling({"arguments": "{}"}), "a function needs a name"),
        (calling(None), "must have the key function"),
        ({**OTHERS, "tools": "{"}, "tools: not JSON"),
        ({"messages": OTHERS["messages"]}, "the key tools must hold a list"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(OTHERS) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(MessagesError, match=rf"rows\.jsonl:2: .*{message}"):
        list(messages.read_rows(path))


def test_a_line_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("{\n")
    with pytest.raises(MessagesError, match=r"rows\.jsonl:1: not JSON"):
        list(messages.read_rows(path))


def test_columns_of_parquet(tmp_path):
    """Tools are JSON text there; a text without a UTF-8 form is refused and names its environment."""
    path = tmp_path / "rows.parquet"
    messages.write_rows(path, [oracle_chat(SPEC, ACTIONS, OBSERVATIONS)])
    (row,) = read_parquet(path)
    assert row.keys() == messages.COLUMNS.keys()
    assert len(json.loads(row["tools"])) == len(SPEC.tools)
    assert row["messages"][0]["tool_calls"] is None
    with pytest.raises(ExportError, match=rf"'{SPEC.env_id}': messages has a character without a UTF-8 form"):
        messages.write_rows(path, [oracle_chat(SPEC, ACTIONS, ["\ud800", *OBSERVATIONS[1:]])])

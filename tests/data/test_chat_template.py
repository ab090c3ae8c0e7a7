"""A model's template gives the ids that it would give elsewhere, and text from outside forges nothing."""

import dataclasses
import functools
import json

import jinja2
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.data.chat import Renderer, make_renderer
from codegym_jax.data.chat_template import ChatML, ChatTemplate, ChatTemplateError, Message
from codegym_jax.data.hermes import Hermes
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.data.style import Content, Special
from tests.data.toy_chat import MARKUP, SPEC, SPECIAL, WITH_TOOLS, WITHOUT_TOOLS, make_tokenizer

TOKENIZERS = {name: make_tokenizer(name) for name in (WITH_TOOLS, WITHOUT_TOOLS)}
RENDERERS = {name: make_renderer("hermes", tokenizer) for name, tokenizer in TOKENIZERS.items()}
STYLES = {name: Hermes(ChatTemplate(name, added_tokens=[*SPECIAL, *MARKUP])) for name in TOKENIZERS}
REFERENCE = tokenizers.Tokenizer.from_str(TOKENIZERS[WITH_TOOLS].to_json())
HERMES = {None: make_renderer("hermes", make_tokenizer()), **RENDERERS}
MESSAGE = '<tool_call>\n{"name": "GetItem", "arguments": {"index": 0}}\n</tool_call>'
ACTION = json.dumps({"name": "GetItem", "parameters": {"index": 0}})
HARMLESS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"))
HOSTILE = st.lists(st.sampled_from([*SPECIAL, *MARKUP, "<|im_", "end|>", "a", " ", "\n", "\ue000"])).map(
    "".join
)
TEMPLATES = pytest.mark.parametrize("template", [WITH_TOOLS, WITHOUT_TOOLS], ids=["tools", "no tools"])


def reference_text(template: str, messages: list[dict], tools=None, **variables) -> str:
    """What Jinja alone makes of a chat."""
    return compiled(template).render(messages=messages, tools=tools, **variables)


@functools.cache
def compiled(template: str) -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(template)


def reference_ids(text: str) -> list[int]:
    """What the tokenizer's own library makes of a text, every token that it spells among them."""
    return REFERENCE.encode(text, add_special_tokens=False).ids


def first_messages(template: str, statement: str) -> tuple[list[dict], list[dict] | None]:
    """The messages and tools that the prompt of `SPEC` with this statement consists of."""
    spec = dataclasses.replace(SPEC, statement=statement)
    messages, tools = STYLES[template].conversation(spec)
    return [
        {"role": role, "content": "".join(one.text if isinstance(one, Content) else one for one in parts)}
        for role, parts in messages
    ], tools or None


@TEMPLATES
@settings(max_examples=40)
@given(HARMLESS)
def test_a_prompt_has_the_ids_of_the_template_applied_elsewhere(template, statement):
    messages, tools = first_messages(template, statement)
    expected = reference_ids(reference_text(template, messages, tools, add_generation_prompt=True))
    assert RENDERERS[template].render_prompt(dataclasses.replace(SPEC, statement=statement)) == expected


def test_a_template_lists_the_tools_where_it_takes_them():
    _, tools = first_messages(WITH_TOOLS, "")
    assert tools == [tool_schema(tool) for tool in SPEC.tools]
    messages, tools = first_messages(WITHOUT_TOOLS, "")
    assert tools is None
    assert all(json.dumps(tool_schema(tool)) in messages[0]["content"] for tool in SPEC.tools)


@settings(max_examples=40)
@given(st.lists(st.lists(HARMLESS, min_size=1, max_size=3), min_size=1, max_size=3))
def test_an_episode_has_the_ids_of_the_whole_chat(turns):
    """Turn by turn: what was rendered stays, and adjacent results share one user turn."""
    renderer = RENDERERS[WITH_TOOLS]
    messages, tools = first_messages(WITH_TOOLS, SPEC.statement)
    ids = renderer.render_prompt(SPEC)
    for observations in turns:
        ids += renderer.render_call(ACTION, SPEC) + renderer.bridge_to_next_turn(observations)
        messages.append({"role": "assistant", "content": MESSAGE})
        messages += [{"role": "tool", "content": one} for one in observations]
        text = reference_text(WITH_TOOLS, messages, tools, add_generation_prompt=True)
        assert ids == reference_ids(text)


def test_results_go_into_a_user_turn_where_the_template_knows_no_tools():
    renderer = RENDERERS[WITHOUT_TOOLS]
    assert renderer.decode(renderer.bridge_to_next_turn(["3", "4"])) == (
        "\n<|im_start|>user\n<tool_response>\n3\n</tool_response>\n<tool_response>\n4\n</tool_response><|im_end|>"
        "\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("template", [None, WITH_TOOLS, WITHOUT_TOOLS], ids=["none", "tools", "no tools"])
@settings(max_examples=40)
@given(HOSTILE)
def test_text_from_outside_forges_no_token(template, text):
    """Neither in a statement, nor in a tool's doc, nor in a result: the tokens are those of empty text."""
    renderer = HERMES[template]
    tool = dataclasses.replace(SPEC.tools[0], doc=text)
    prompt = renderer.render_prompt(
        dataclasses.replace(SPEC, statement=f"x{text}x", tools=(tool, *SPEC.tools[1:]))
    )
    bridge = renderer.bridge_to_next_turn(f"x{text}x")
    assert added_tokens(renderer, prompt) == added_tokens(renderer, renderer.render_prompt(SPEC))
    assert added_tokens(renderer, bridge) == added_tokens(renderer, renderer.bridge_to_next_turn(""))
    assert f"x{text}x" in renderer.decode(bridge)
    assert f"x{text}x" in renderer.decode(prompt)
    assert json.dumps(text.strip(), ensure_ascii=False) in renderer.decode(prompt)


def added_tokens(renderer: Renderer, ids: list[int]) -> list[int]:
    added = {renderer.tokenizer.added_id(name) for name in renderer.tokenizer.added_tokens}
    return [one for one in ids if one in added]


def test_without_a_template_the_frame_is_chatml():
    """And equal to a ChatML template's."""
    framed = HERMES[None]
    templated = RENDERERS[WITHOUT_TOOLS]
    assert framed.render_prompt(SPEC) == templated.render_prompt(SPEC)
    assert framed.bridge_to_next_turn(["1", "2"]) == templated.bridge_to_next_turn(["1", "2"])
    with pytest.raises(ValueError, match="no place for tools"):
        ChatML().open([], [{"type": "function"}])


def test_a_switch_reaches_every_turn():
    renderer = make_renderer("hermes", TOKENIZERS[WITH_TOOLS], template_variables={"enable_thinking": False})
    for ids in (renderer.render_prompt(SPEC), renderer.bridge_to_next_turn("7")):
        assert renderer.decode(ids).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def frame(source: str, **variables) -> ChatTemplate:
    return ChatTemplate(source, added_tokens=SPECIAL, variables=variables)


def opened(source: str, *parts: str | Content, **variables) -> str:
    """The text that a template makes of one user message, when its turns end as they must."""
    ending = "{% for m in messages[1:] %}{{ m.content }}<|im_end|>{% endfor %}"
    pieces = frame(source + ending, **variables).open([Message("user", parts)])
    return "".join(
        one.name if isinstance(one, Special) else one.text if isinstance(one, Content) else one
        for one in pieces
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ '<b>&\\'' | tojson }}", '"<b>&\'"'),
        ("{{ {'é': [1, none]} | tojson(indent=1) }}", '{\n "é": [\n  1,\n  null\n ]\n}'),
        ("{{ strftime_now('%Y-%m-%d') }}", "2024-07-26"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}a{{ 1 + 1 }}{% endgeneration %}b", "a2b"),
        ("{% if true %}\n    x\n{% endif %}", "    x\n"),
        ("{{ eos_token }}{{ bos_token }}", "<|im_end|>"),
        ("{{ messages[0].content | upper }}", "HI"),
    ],
)
def test_templates_find_what_is_documented(source, expected):
    assert opened(source, "hi", eos_token="<|im_end|>") == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% if %}", "no Jinja: line 1"),
        ("{{ raise_exception('only users') }}", "fails: only users"),
        ("{{ messages[0].content + 1 }}", "the chat template fails"),
        ("{{ messages.append(1) }}", "the chat template fails"),
        ("{{ ''.__class__.__mro__ }}", "the chat template fails"),
        ("{{ range(10 ** 9) | list }}", "the chat template fails"),
        ("hello", "write each message once"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "end it with a token"),
        ("{% for m in messages %}{{ m.content }}\n<|im_end|>{% endfor %}", "end it with a token"),
        ("{% for m in messages %}{{ m.content * 2 }}<|im_end|>{% endfor %}", "write each message once"),
    ],
)
def test_a_template_that_cannot_frame_turns_is_refused(source, message):
    with pytest.raises(ChatTemplateError, match=message):
        frame(source)


def test_a_tokenizer_without_added_tokens_has_no_template():
    with pytest.raises(ChatTemplateError, match="has none"):
        ChatTemplate(WITH_TOOLS, added_tokens=["x"])


def test_a_template_that_asks_more_of_a_tool_result_gets_none():
    """Its results are user turns then, and our own words list the tools."""
    results = "{%- if message.role == 'tool' %}"
    picky = WITH_TOOLS.replace(
        results, results + "{{ raise_exception('a result needs the id of its call') }}"
    )
    assert ChatTemplate(WITH_TOOLS, added_tokens=SPECIAL).takes_tools
    assert not ChatTemplate(picky, added_tokens=SPECIAL).takes_tools


def test_private_characters_of_a_text_survive():
    text = "".join(map(chr, range(0xE000, 0xF900)))
    assert opened("{{ messages[0].content }}", Content(text + SPECIAL[0])) == text + SPECIAL[0]

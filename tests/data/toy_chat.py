"""A small tokenizer and chat templates of the kind that pretrained models bring, for several tests."""

import tokenizers
from tokenizers import AddedToken

from codegym_jax.data.tokenizer import Tokenizer, train_bpe
from codegym_jax.records import EnvSpec, ParameterSpec, ToolSpec

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

WITH_TOOLS = r"""
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- 'There are these functions:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\n</tools>\nTo call one:\n<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- elif message.role != 'system' %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""
"""In the manner of Qwen's: lists tools, merges adjacent results into one user turn, has a switch."""

WITHOUT_TOOLS = r"""
{%- for message in messages -%}
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}
{%- endfor -%}
{{- '<|im_start|>assistant\n' if add_generation_prompt -}}
"""
"""In the manner of SmolLM's: every role alike, no word of tools."""


def make_tool(name: str, *parameters: str, optional: tuple[str, ...] = ()) -> ToolSpec:
    required = [ParameterSpec(name=parameter, type_name="int") for parameter in parameters]
    others = [ParameterSpec(name=parameter, required=False) for parameter in optional]
    return ToolSpec(name=name, parameters=(*required, *others), doc=f"Does {name}.")


SPEC = EnvSpec(
    code_id="HumanEval_52",
    class_name="BelowThresholdEnv",
    source="SECRET = 1",
    tools=(
        make_tool("Observe"),
        make_tool("GetItem", "index"),
        make_tool("Compare", "left", "right"),
        make_tool("Search", "text", optional=("start", "end")),
        make_tool("Done", "answer"),
    ),
    statement="Say whether all values are below the threshold.",
)


def make_tokenizer(chat_template: str | None = None) -> Tokenizer:
    """Trained on little, with special tokens and markup."""
    trained = train_bpe(["GetItem assistant"] * 9, max_vocabulary=300, special_tokens=SPECIAL)
    backend = tokenizers.Tokenizer.from_str(trained.to_json())
    backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in MARKUP])
    return Tokenizer(backend, chat_template=chat_template, token_names={"eos_token": "<|endoftext|>"})

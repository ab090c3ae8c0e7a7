"""A policy that makes the same call in every message, as weights and a tokenizer that `codegym serve` opens.

A harness then meets real calls, the same on every machine, within seconds, whatever it asks. Attention and
feed-forward are zero, so the next token follows from the last alone: from the line break that ends
`assistant`, to the mark of a call, to its body, which is one token, to the end of the message.
"""

import itertools
import json
import pathlib
from typing import Any

import numpy as np
import tokenizers
from safetensors.numpy import save_file

from codegym_jax.data.chat import special_tokens
from codegym_jax.data.hermes import CLOSE, OPEN
from codegym_jax.data.tokenizer import train_bpe

CONTEXT = 65_536
_WIDTH = 8
_SURE = 30.0
"""Of a logit; all others are zero, so that any temperature up to 1 is as good as none."""


def write_one_call(folder: pathlib.Path, name: str, arguments: dict[str, Any]) -> pathlib.Path:
    """Writes such a policy as Hugging Face lays weights out; returns the folder."""
    folder.mkdir(parents=True)
    begin, body = OPEN + "\n", json.dumps({"name": name, "arguments": arguments}) + "\n" + CLOSE
    train_bpe(["Peek Observe"] * 3, max_vocabulary=300, special_tokens=special_tokens("hermes")).save(
        folder / "tokenizer.json"
    )
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in (begin, body)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (line_break,) = tokenizer.encode("\n").ids
    said = [line_break, *map(tokenizer.token_to_id, (begin, body, "<|im_end|>"))]
    _write_weights(folder, said, tokenizer.get_vocab_size())
    return folder


def _write_weights(folder: pathlib.Path, said: list[int], vocabulary: int) -> None:
    """Each token of `said` leads to the next."""
    embedding, head = (np.zeros((vocabulary, _WIDTH), np.float32) for _ in range(2))
    for place, (token, following) in enumerate(itertools.pairwise(said)):
        embedding[token, place] = 1
        head[following, place] = _SURE
    square, norm = np.zeros((_WIDTH, _WIDTH), np.float32), np.ones(_WIDTH, np.float32)
    attention = {f"self_attn.{part}_proj": square for part in "qkvo"}
    feed_forward = {f"mlp.{part}_proj": square for part in ("gate", "up", "down")}
    norms = {"input_layernorm": norm, "post_attention_layernorm": norm}
    parts = {**attention, **feed_forward, **norms}
    layer = {f"model.layers.0.{part}.weight": value for part, value in parts.items()}
    ends = {"model.embed_tokens.weight": embedding, "model.norm.weight": norm, "lm_head.weight": head}
    save_file({**ends, **layer}, folder / "model.safetensors")
    shape = {"hidden_size": _WIDTH, "head_dim": _WIDTH, "intermediate_size": _WIDTH, "vocab_size": vocabulary}
    counts = {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    config = {
        "model_type": "llama",
        **shape,
        **counts,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

"""A policy that answers conversations: what a run learned, or pretrained weights, on a completion engine."""

import dataclasses
import json
import pathlib
from dataclasses import dataclass
from typing import Any

import jax

from codegym_jax.config import ConfigError, PolicyConfig, from_dict
from codegym_jax.data.chat import Renderer, make_renderer
from codegym_jax.data.conversation import require_chats
from codegym_jax.data.style import RenderError
from codegym_jax.data.tokenizer import Tokenizer
from codegym_jax.models import sharding
from codegym_jax.models.transformer import Transformer
from codegym_jax.models.weights import open_weights
from codegym_jax.pipelines.policy import compute_of
from codegym_jax.pipelines.stages import newest_stage, stage_params
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.rollout.completion_sampler import completion_sampler
from codegym_jax.rollout.completions import CompletionEngine

TOKENS_A_CALL = 8
"""Of the device, between two looks at what has ended and what waits: what a stream gets at a time."""
_CONTEXT_TOKENS = 4096
"""Of weights that were made for as many or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPolicy:
    """A policy that is ready to answer; closed at the end of a `with` block."""

    engine: CompletionEngine
    renderer: Renderer
    model_name: str
    context_tokens: int

    def __enter__(self) -> "ServedPolicy":
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    model: Transformer
    mesh: jax.sharding.Mesh
    params: Any
    renderer: Renderer
    name: str
    context_tokens: int


def open_policy(
    source: str,
    *,
    cache: pathlib.Path,
    slots: int = 8,
    context_tokens: int = 0,
    stage: str = "",
    tokenizer: str = "",
    dtype: str = "",
    name: str = "",
) -> ServedPolicy:
    """Opens a policy and compiles all that it will need.

    Args:
      source: a run folder, or pretrained weights as `models.weights` names them.
      cache: of this machine.
      slots: completions at once; more on a mesh that they do not divide by.
      context_tokens: of prompt and answer; 0: what the run learned with, of weights 4096 or what they were
        made for if that is less.
      stage: of a run, whose parameters; empty: the last that saved any.
      tokenizer: of weights that have none.
      dtype: what is computed in, float32 or bfloat16; empty: as the run; of weights bfloat16,
        on a CPU float32.
      name: by which clients ask for it; empty: the last part of the source.

    Raises:
      ConfigError: when the policy cannot take conversations, or a setting does not fit it.
      WeightsError, TokenizerError: when there are no such weights, or no tokenizer.
    """
    folder = pathlib.Path(source).expanduser()
    if _is_run(folder):
        opened = _open_run(folder, cache, stage, dtype)
    else:
        opened = _open_weights(source, tokenizer, dtype)
    most = opened.model.config.max_positions
    context_tokens = context_tokens or opened.context_tokens
    if most and context_tokens > most:
        raise ConfigError(f"{source} was made for {most} tokens, and {context_tokens} are asked for")
    sampler = completion_sampler(
        opened.model,
        opened.mesh,
        slots=slots,
        context_tokens=context_tokens,
        tokens_a_call=TOKENS_A_CALL,
        stop_sequences=opened.renderer.stop_sequences,
    )
    engine = CompletionEngine(sampler, opened.params)
    engine.warm_up()
    return ServedPolicy(
        engine=engine,
        renderer=opened.renderer,
        model_name=name or opened.name,
        context_tokens=context_tokens,
    )


def _is_run(folder: pathlib.Path) -> bool:
    """Whether a folder is a run's; that of weights has a `config.json`, too."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    fields = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(fields, dict) and {"policy", "rollout"} <= fields.keys()


def _open_run(folder: pathlib.Path, cache: pathlib.Path, stage: str, dtype: str) -> _Opened:
    config = from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if dtype:
        config = dataclasses.replace(config, policy=dataclasses.replace(config.policy, compute_dtype=dtype))
    bench = Workbench(config, folder, cache)
    try:
        require_chats(bench.renderer)
    except RenderError as error:
        raise ConfigError(f"{folder}: {error}") from error
    params = stage_params(bench, stage or newest_stage(bench))
    return _Opened(
        model=bench.sampling_model,
        mesh=bench.sampling_mesh,
        params=bench.sampling_params(params),
        renderer=bench.renderer,
        name=folder.resolve().name,
        context_tokens=config.rollout.max_tokens,
    )


def _open_weights(source: str, tokenizer: str, dtype: str) -> _Opened:
    weights = open_weights(source)
    where = tokenizer or weights.tokenizer_source
    if where is None:
        raise ConfigError(f"{source} has no tokenizer.json; name one by --tokenizer")
    renderer = make_renderer("hermes", Tokenizer.load(where))
    if renderer.vocabulary_size > weights.vocabulary_size:
        last = renderer.vocabulary_size - 1
        raise ConfigError(
            f"{where}: its ids go up to {last}, those of {source} to {weights.vocabulary_size - 1}"
        )
    dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    policy = PolicyConfig(weights=source, param_dtype=dtype, compute_dtype=dtype)
    model = Transformer(weights.config, weights.vocabulary_size, compute_of(policy))
    mesh = sharding.make_mesh()
    return _Opened(
        model=model,
        mesh=mesh,
        params=weights.load(model, mesh),
        renderer=renderer,
        name=_last_part(source),
        context_tokens=min(_CONTEXT_TOKENS, weights.config.max_positions or _CONTEXT_TOKENS),
    )


def _last_part(source: str) -> str:
    name = source.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    return name.removesuffix(".gguf") or source

"""Pretrained weights from wherever they lie, placed on a mesh: each host reads what its devices hold.

A source is one of

    path/to/folder               `config.json` and safetensors files, as Hugging Face lays them out
    path/to/model.gguf           llama.cpp's format
    package:relative/file        either of the two inside an installed Python package, which is not imported
    hub:organization/name        a repository of the Hugging Face hub; `@revision` may follow
"""

import importlib.util
import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from codegym_jax.models import hf_config, hf_names, layers_layout, sharding
from codegym_jax.models.checkpoint_hf import SafetensorsFolder
from codegym_jax.models.gguf import GgufFile
from codegym_jax.models.hf_names import Leaf
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.tensor_store import Index, TensorStore, WeightsError
from codegym_jax.models.transformer import Transformer

_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights whose every tensor is known to be there, in the shape that the model's config asks for."""

    config: ModelConfig
    vocabulary_size: int
    tokenizer_source: pathlib.Path | None  # what `Tokenizer.load` takes: the folder, or the .gguf file
    store: TensorStore

    def load(self, model: Transformer, mesh: Mesh) -> Any:
        """The model's parameters, in its dtype and layout, placed by `sharding.parameter_shardings`.

        A device's part of a parameter is read from the file by itself; nothing is read twice, and no
        parameter is ever whole on the host unless it is whole on a device.

        Raises:
          WeightsError: when the model is not of the weights' shape, a file is cut off, or a stored head
            differs from the embedding that it should be tied to.
        """
        tokens_BT = jnp.zeros((1, 1), jnp.int32)
        shardings = sharding.parameter_shardings(model, mesh, tokens_BT)
        boxed = jax.eval_shape(model.init, jax.random.key(0), tokens_BT)
        wanted = jax.tree_util.tree_flatten_with_path(nn.meta.unbox(boxed)["params"])
        parts = self._parts({tuple(k.key for k in path): leaf.shape for path, leaf in wanted[0]})
        placed = [
            self._place(part, leaf.shape, leaf.dtype, where)
            for part, (_, leaf), where in zip(parts, wanted[0], jax.tree.leaves(shardings), strict=True)
        ]
        return jax.tree.unflatten(wanted[1], placed)

    def _parts(self, shapes: Mapping[tuple[str, ...], tuple[int, ...]]) -> list[list[Leaf]]:
        """For each of the model's parameters, what it is made of: one leaf, or one leaf a layer."""
        unused = {leaf.path: leaf for leaf in hf_names.leaves(self.config, self.vocabulary_size)}
        parts = []
        for path, shape in shapes.items():
            stacked = path[0] == layers_layout.STACKED
            names = [(layers_layout.block_name(i), *path[1:]) for i in range(shape[0])] if stacked else [path]
            part = [unused.pop(name) for name in names if name in unused]
            found = [(len(part), *part[0].shape) if stacked else part[0].shape] if part else []
            if found != [shape]:
                raise WeightsError(
                    f"{self.store.source}: parameter {'/'.join(path)} of the model has shape {shape},"
                    f" the weights have {found[0] if found else 'none'}"
                )
            parts.append(part)
        if unused:
            leaf = next(iter(unused.values()))
            raise WeightsError(
                f"{self.store.source}: tensor {leaf.tensor} {leaf.stored_shape} has no parameter in the model"
            )
        return parts

    def _place(self, part: Sequence[Leaf], shape: tuple[int, ...], dtype: Any, where: Any) -> jax.Array:
        read: dict[tuple[tuple[int, int], ...], np.ndarray] = {}

        def slice_of(index: Index | None) -> np.ndarray:
            assert index is not None  # it is for arrays without axes only
            bounds = tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True))
            if bounds not in read:  # devices that hold the same
                read[bounds] = self._read(part, tuple(slice(*b) for b in bounds), len(shape), dtype)
            return read[bounds]

        return jax.make_array_from_callback(shape, where, slice_of)

    def _read(self, part: Sequence[Leaf], index: Index, rank: int, dtype: Any) -> np.ndarray:
        """A slice of a parameter; of a stacked one, the layers in the first axis."""
        if rank == len(part[0].shape):
            return self._read_one(part[0], index, dtype)
        return np.stack([self._read_one(leaf, index[1:], dtype) for leaf in part[index[0]]])

    def _read_one(self, leaf: Leaf, index: Index, dtype: Any) -> np.ndarray:
        stored = index[::-1] if leaf.transposed else index
        values = self.store.read(leaf.tensor, stored)
        if leaf.tensor == hf_names.EMBEDDING and self.config.tied_head:
            self._check_tied(values, stored)
        return np.ascontiguousarray(values.T if leaf.transposed else values).astype(dtype, copy=False)

    def _check_tied(self, embedding: np.ndarray, index: Index) -> None:
        if hf_names.HEAD not in self.store.tensors():
            return
        head = self.store.read(hf_names.HEAD, index)
        if head.dtype != embedding.dtype or head.tobytes() != embedding.tobytes():
            raise WeightsError(
                f"{self.store.source}: the config ties the head to the embedding (tie_word_embeddings), but"
                f" tensor {hf_names.HEAD} differs from {hf_names.EMBEDDING}"
            )


def open_weights(source: str) -> Weights:
    """Finds weights, reads config and headers, and holds every tensor against the config.

    Raises:
      WeightsError: when there is nothing at the source, its config is of no model here, or its tensors are
        not those that the config asks for.
    """
    path = _find(source)
    if path.is_dir():
        store: TensorStore = SafetensorsFolder(path)
        config = hf_config.read(path / "config.json")
        tokenizer = path if (path / "tokenizer.json").is_file() else None
    elif path.suffix == ".gguf":
        store = file = GgufFile(path)
        config = file.config()
        tokenizer = path
    else:
        raise WeightsError(f"{source}: expected a folder with config.json, or a .gguf file, got {path.name}")
    hf_names.check(store, config, config.vocabulary)
    return Weights(config, config.vocabulary, tokenizer, store)


def _find(source: str) -> pathlib.Path:
    if source.startswith("hub:"):
        return from_hub(source.removeprefix("hub:"))
    path = pathlib.Path(source).expanduser()
    if path.exists():
        return path
    if package := re.fullmatch(r"([A-Za-z_]\w*):(.+)", source):
        return _in_package(package[1], package[2])
    raise WeightsError(
        f"{source} not found; expected a folder, a .gguf file, package:relative/file or hub:organization/name"
    )


def _in_package(package: str, file: str) -> pathlib.Path:
    """A file of an installed package. Finding a top-level package does not run it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise WeightsError(f"{package}:{file}: no package {package} is installed")
    folders = [pathlib.Path(folder) for folder in spec.submodule_search_locations or ()]
    for folder in folders:
        if (folder / file).exists():
            return folder / file
    raise WeightsError(f"{package}:{file}: package {package} is installed, but has no file {file}")


def from_hub(repository: str, cache: pathlib.Path | None = None) -> pathlib.Path:
    """The local copy of a repository of the Hugging Face hub, fetched if needed.

    Fetches configs, safetensors and the tokenizer's files; no other format.

    Args:
      repository: `organization/name`, or `organization/name@revision`.
      cache: where copies are kept; None is huggingface_hub's own place (`HF_HOME`).

    Raises:
      WeightsError: when the package is absent, or the hub does not give the repository.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise WeightsError(
            f"hub:{repository} needs the package huggingface_hub; run: pip install 'codegym-jax[hub]'"
        ) from error
    name, _, revision = repository.partition("@")
    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(
                name, revision=revision or None, cache_dir=cache, allow_patterns=list(_HUB_FILES)
            )
        )
    except (OSError, ValueError, EntryNotFoundError) as error:
        raise WeightsError(f"hub:{repository}: {str(error).splitlines()[0]}") from error

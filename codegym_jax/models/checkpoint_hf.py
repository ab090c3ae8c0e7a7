"""Checkpoints of Hugging Face: a folder of safetensors files and a `config.json`, read by slices and written.

Source: https://github.com/huggingface/safetensors (the format: 8 bytes of length, a JSON header, then data);
an index file, `model.safetensors.index.json`, says which file of a sharded checkpoint holds which tensor.
"""

import json
import math
import pathlib
import shutil
import uuid
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from codegym_jax.models import hf_config, hf_names, layers_layout
from codegym_jax.models.hf_names import Leaf
from codegym_jax.models.tensor_store import Index, Stored, WeightsError
from codegym_jax.models.transformer import Transformer

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9
"""Of one file, at most, unless a tensor alone is larger; transformers' own limit."""


class SafetensorsFolder:
    """The tensors of `model.safetensors`, or of the files that the index names; mapped, not read."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Reads every header.

        Raises:
          WeightsError: for a folder without safetensors, a damaged file, or an index that
            disagrees with its files.
        """
        self._folder = folder
        self._handles: dict[str, Any] = {}
        self._file_of: dict[str, str] = {}
        self._tensors: dict[str, Stored] = {}
        index = folder / INDEX
        listed = _weight_map(index) if index.exists() else None
        files = sorted(set(listed.values())) if listed is not None else [SINGLE]
        for file in files:
            self._read_header(file)
        if listed is not None:
            self._compare_with_index(listed)

    @property
    def source(self) -> str:
        return str(self._folder)

    def tensors(self) -> Mapping[str, Stored]:
        return self._tensors

    def read(self, name: str, index: Index) -> np.ndarray:
        file = self._file_of[name]
        try:
            return self._handles[file].get_slice(name)[index]
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{self._folder / file}: tensor {name} cannot be read: {error}") from error

    def _read_header(self, file: str) -> None:
        path = self._folder / file
        if not path.is_file():
            raise WeightsError(f"{path} not found; expected {SINGLE}, or {INDEX} and the files it names")
        try:
            handle = safe_open(path, framework="numpy")
            headers = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is no complete safetensors file: {error}") from error
        self._handles[file] = handle
        for name, header in headers.items():
            if name in self._file_of:
                raise WeightsError(f"{path}: tensor {name} is in {self._file_of[name]} too, expected it once")
            self._file_of[name] = file
            self._tensors[name] = Stored(tuple(header.get_shape()), header.get_dtype())

    def _compare_with_index(self, listed: Mapping[str, str]) -> None:
        for name in sorted(listed.keys() | self._file_of.keys()):
            expected, found = listed.get(name), self._file_of.get(name)
            if expected != found:
                raise WeightsError(
                    f"{self._folder / INDEX}: tensor {name} is expected in"
                    f" {expected or 'no file'}, found in {found or 'no file'}"
                )


def _weight_map(path: pathlib.Path) -> dict[str, str]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: expected a JSON object with weight_map, got {error!r}") from error
    if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
        raise WeightsError(f"{path}: weight_map must map tensors to files")
    if outside := [file for file in listed.values() if pathlib.PurePath(file).name != file]:
        raise WeightsError(f"{path}: weight_map must name files of the folder, got {outside[0]}")
    return listed


def save(
    folder: pathlib.Path,
    params: Any,
    model: Transformer,
    tokenizer_json: str | None = None,
    *,
    eos_token_id: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a folder that `transformers` loads, and `weights.open_weights`; values and dtype as they are.

    The folder appears complete or not at all. In a run of several processes each must call this; the first
    one writes, and holds one file's tensors in memory.

    Args:
      folder: must not exist yet, or be empty.
      params: the model's parameters, unrolled or scanned as the model says; of any sharding.
      tokenizer_json: the text of the `tokenizers` file to put beside the weights.
      eos_token_id: where `generate` of transformers stops.
      shard_bytes: the size of a file at most, unless one tensor is larger.

    Raises:
      WeightsError: for a model that is of no Hugging Face architecture, or a folder that holds something.
    """
    config = hf_config.write(model.config, model.vocabulary_size)
    leaves = hf_names.leaves(model.config, model.vocabulary_size)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists; weights are written into a new folder")
    dtype = params["embedding"].dtype
    files = _files(leaves, dtype.itemsize, shard_bytes)
    writes = jax.process_index() == 0
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    try:
        if writes:
            partial.mkdir(parents=True)
        for file, part in files.items():
            # Every process takes part in gathering what lies on several.
            tensors = {leaf.tensor: _gather(params, leaf) for leaf in part}
            if writes:
                save_file(tensors, partial / file, metadata={"format": "pt"})
        if writes:
            if len(files) > 1:
                _write_index(partial / INDEX, files, dtype.itemsize)
            _write_json(
                partial / "config.json",
                config | {"torch_dtype": dtype.name, "bos_token_id": None, "eos_token_id": eos_token_id},
            )
            if tokenizer_json is not None:
                (partial / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
                # Otherwise the class is chosen by the model's type, and it may rebuild the pre-tokenizer.
                _write_json(partial / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"weights saved to {folder.name}")


def _files(leaves: list[Leaf], itemsize: int, shard_bytes: int) -> dict[str, list[Leaf]]:
    """Consecutive tensors by file, each file filled up to the limit."""
    parts: list[list[Leaf]] = [[]]
    size = 0
    for leaf in leaves:
        bytes_of_leaf = math.prod(leaf.shape) * itemsize
        if parts[-1] and size + bytes_of_leaf > shard_bytes:
            parts.append([])
            size = 0
        parts[-1].append(leaf)
        size += bytes_of_leaf
    if len(parts) == 1:
        return {SINGLE: parts[0]}
    return {f"model-{i:05d}-of-{len(parts):05d}.safetensors": part for i, part in enumerate(parts, 1)}


def _gather(params: Any, leaf: Leaf) -> np.ndarray:
    """The whole parameter on this host, in the layout of the checkpoint."""
    top, *inner = leaf.path
    stacked = layers_layout.is_stacked(params) and top not in params
    value = params[layers_layout.STACKED if stacked else top]
    for key in inner:
        value = value[key]
    if stacked:
        value = value[int(top.removeprefix(f"{layers_layout.STACKED}_"))]
    if not getattr(value, "is_fully_addressable", True):
        value = multihost_utils.process_allgather(value, tiled=True)
    array = np.asarray(value)
    return np.ascontiguousarray(array.T if leaf.transposed else array)


def _write_index(path: pathlib.Path, files: Mapping[str, list[Leaf]], itemsize: int) -> None:
    total = sum(math.prod(leaf.shape) * itemsize for part in files.values() for leaf in part)
    weight_map = {leaf.tensor: file for file, part in files.items() for leaf in part}
    _write_json(path, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

"""The TFDS builder `codegym_tasks`, and the tasks of one split read back by index.

TFDS is used without TensorFlow: only its builder, its ArrayRecord writer and its random-access reader.
"""

import contextlib
import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

from codegym_jax.records import EnvSpec, Task

VERSION = "2.0.0"
"""Of the builder and of the whole task set folder: its first number changes with the fields, its second when
some are added, its third when the same tasks are written in another way."""
RELEASE_NOTES = {
    "1.0.0": "Tasks with their oracle's calls, by split.",
    "2.0.0": "Every task says its license and its origin; splits never part near duplicates.",
}


class CodegymTasks(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder `codegym_tasks`; tasks keep the order in which they were given."""

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = RELEASE_NOTES
    # TFDS would look for a file of download checksums beside this module, through a package that Pythons
    # of today no longer have. Nothing is downloaded.
    code_path = None

    def __init__(
        self, tasks_by_split: Mapping[str, Sequence[Task]], specs: Mapping[str, EnvSpec], **settings: Any
    ) -> None:
        self._tasks_by_split = tasks_by_split
        self._specs = specs
        super().__init__(**settings)

    def _example_writer(self) -> ExampleWriter:
        file_format = self.info.file_format
        assert file_format is not None
        return _InOneOrder(file_format)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        return tfds.core.DatasetInfo(
            builder=self,
            description="Verified tool-use tasks: an environment, one hidden config, the oracle's calls.",
            features=tfds.features.FeaturesDict(
                {
                    "task_id": text(),
                    "env_id": text(),
                    "license": text(),
                    "origin": text(),
                    "config_json": text(),
                    "oracle_actions": tfds.features.Sequence(text()),
                    "oracle_observations": tfds.features.Sequence(text()),
                    "answer_json": text(),
                    "oracle_calls": np.int64,
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(tasks) for split, tasks in self._tasks_by_split.items()}

    def _generate_examples(self, tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, task in enumerate(tasks):
            yield index, _to_example(task, self._specs[task.env_id])


class _InOneOrder(ExampleWriter):
    """Writes an example's fields in the same order always; protobuf's own changes from process to process."""

    def write(self, path: Any, examples: Any) -> Any:
        """As TFDS's."""
        parse = vars(tf_example_pb2)["Example"].FromString  # a class that is made when its module is imported
        ordered = ((key, parse(one).SerializeToString(deterministic=True)) for key, one in examples)
        return super().write(path, ordered)


class TaskSource(Sequence[Task]):
    """The tasks of one split by index, read from the record files on demand."""

    def __init__(self, records: Any | None, positions: Sequence[int] | None = None) -> None:
        """Takes what TFDS reads.

        Args:
          records: the split's examples; None when there are none.
          positions: which of them, in this order; all unless given.
        """
        self._records = records
        self._positions = range(0 if records is None else len(records)) if positions is None else positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = self._positions[index]  # negative indices and IndexError as for any sequence
        assert self._records is not None
        return _to_task(self._records[position])

    def select(self, positions: Sequence[int]) -> "TaskSource":
        """Some of these tasks, in the order of their positions among these."""
        return TaskSource(self._records, [self._positions[position] for position in positions])


def write_tasks(
    folder: pathlib.Path, by_split: Mapping[str, Sequence[Task]], specs: Mapping[str, EnvSpec]
) -> None:
    """Writes the splits that have tasks to `folder/codegym_tasks/VERSION`.

    TFDS refuses an empty split, so the caller alone knows of those.
    """
    filled = {split: tasks for split, tasks in by_split.items() if tasks}
    if not filled:
        return
    # TFDS announces itself on both streams and has no switch for it.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        builder = CodegymTasks(filled, specs, data_dir=str(folder), file_format="array_record")
        builder.download_and_prepare()


def read_tasks(folder: pathlib.Path, split: str, env_ids: frozenset[str] | None = None) -> TaskSource:
    """The tasks of a split that `write_tasks` wrote.

    Args:
      folder: as given to `write_tasks`.
      split: one that has tasks.
      env_ids: only those of these environments; reads every record once to find them.
    """
    # Any: TFDS hides the signatures of its methods behind an untyped decorator.
    builder: Any = tfds.builder_from_directory(str(folder / "codegym_tasks" / VERSION))
    records = builder.as_data_source(split=split)
    if env_ids is None:
        return TaskSource(records)
    kept = [index for index in range(len(records)) if _to_text(records[index]["env_id"]) in env_ids]
    return TaskSource(records, kept)


def _to_example(task: Task, spec: EnvSpec) -> dict[str, Any]:
    return {
        "task_id": _to_bytes(task.task_id),
        "env_id": _to_bytes(task.env_id),
        "license": _to_bytes(spec.license),
        "origin": _to_bytes(spec.origin),
        "config_json": _to_bytes(task.config_json),
        "oracle_actions": [_to_bytes(action) for action in task.oracle_actions],
        "oracle_observations": [_to_bytes(observation) for observation in task.oracle_observations],
        "answer_json": _to_bytes(task.answer_json),
        "oracle_calls": len(task.oracle_actions),
    }


def _to_task(example: Mapping[str, Any]) -> Task:
    return Task(
        env_id=_to_text(example["env_id"]),
        config_json=_to_text(example["config_json"]),
        oracle_actions=tuple(_to_text(action) for action in example["oracle_actions"]),
        oracle_observations=tuple(_to_text(observation) for observation in example["oracle_observations"]),
        answer_json=_to_text(example["answer_json"]),
    )


def _to_bytes(text: str) -> bytes:
    """UTF-8 that also takes the lone surrogates a Python string, hence a tool's result, may hold."""
    return text.encode("utf-8", "surrogatepass")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")

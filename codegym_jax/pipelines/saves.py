"""The checkpoints of a stage: every so many steps, and of the last whole step when the run is to stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from codegym_jax.pipelines.preemption import NOTICE, Stopped
from codegym_jax.trainer.checkpoint import Checkpointer


class Saves:
    """Saves steps of a stage. Of several processes each calls every method alike.

    Args:
      stage: for people.
      steps: of the stage.
      checkpoints: where they go.
      snapshot: the state as it is and the extra that goes with it (`Checkpointer.save`); raises `Stopped`
        where the step is nothing without what was abandoned.
      step: the one that the stage goes on from, as saved.
    """

    def __init__(
        self,
        stage: str,
        steps: int,
        checkpoints: Checkpointer,
        snapshot: Callable[[int], tuple[Any, dict[str, Any]]],
        *,
        step: int,
    ) -> None:
        self._stage, self._steps = stage, steps
        self._checkpoints, self._snapshot, self._step = checkpoints, snapshot, step

    def save(self, step: int) -> None:
        """Saves a step."""
        with NOTICE.saving():
            self._checkpoints.save(step, *self._snapshot(step))
        self._step = step

    def finish(self) -> None:
        """Waits until all that was saved can be restored."""
        with NOTICE.saving():
            self._checkpoints.wait()

    @contextmanager
    def stops_after(self, step: int) -> Iterator[None]:
        """When the `with` block stops the run (`Stopped`), saves this step first, unless it is saved.

        Args:
          step: the last one that is whole, whose state the snapshot then is.
        """
        try:
            yield
        except Stopped:
            with suppress(Stopped):
                if step > self._step:
                    self.save(step)
            self.finish()
            again = "" if step == self._step else f", {step} is made again"
            raise Stopped(f"{self._stage}: step {self._step} of {self._steps} is saved{again}") from None

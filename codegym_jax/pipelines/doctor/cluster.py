"""Where process 0 is and which process this is, as the cluster tells it: for `--coordinator auto`."""

from dataclasses import dataclass

from codegym_jax.config import UserError


@dataclass(frozen=True, slots=True)
class Place:
    """This process among the others."""

    address: str
    """HOST:PORT of process 0."""
    index: int
    count: int


def find_place(timeout_s: float) -> Place:
    """What JAX finds by itself on TPU pods, under Slurm and under Open MPI.

    JAX has no public way to ask without joining, and joining waits for those who may be missing.

    Args:
      timeout_s: for the address of process 0 to become known.

    Raises:
      UserError: when it finds none, or this version of JAX cannot be asked so.
    """
    advice = "give --coordinator HOST:PORT --process-id I --process-count N instead"
    try:
        from jax._src.clusters import ClusterEnv

        address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, max(1, round(timeout_s))
        )
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(
            f"--coordinator auto: this version of JAX does not say where it looks; {advice}"
        ) from error
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"--coordinator auto: {str(error).splitlines()[0]}; {advice}") from error
    if address is None or count is None or index is None:
        raise UserError(f"--coordinator auto: no TPU pod, Slurm step or Open MPI job is found here; {advice}")
    return Place(address, index, count)

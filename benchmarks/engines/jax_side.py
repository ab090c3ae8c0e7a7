"""What the engines in JAX tell about themselves: programs compiled, versions, the device."""

from collections.abc import Sequence
from importlib.metadata import version

import jax
import jax.monitoring


class Compiled:
    """Counts programs that XLA compiles in this process, from now on; those of single operations too."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_s: float, **_: object) -> None:
        self.count += event.endswith("backend_compile_duration")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of packages, and the device that JAX computes on."""
    return {name: version(name) for name in packages} | {"device": jax.devices()[0].device_kind}

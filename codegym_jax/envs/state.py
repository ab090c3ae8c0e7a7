"""An episode's state, as it is kept, sent and gone back to."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from codegym_jax.envs.lasting_guest import GuestCall, GuestState
from codegym_jax.records import EnvSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvState:
    """An episode at one moment. It may be pickled; as JSON it leaves out the guest's image.

    It may hold the reference answer (in `verdict`, in what the calls gave, in the image), so it is for the
    host only.
    """

    env_id: str
    source_sha256: str
    config_json: str
    guest_hash: str
    actions: tuple[str, ...]
    """Every action, in order."""
    observations: tuple[str, ...]
    """What the policy read after each."""
    reward: float
    finished: bool
    verdict: str
    guest: GuestState

    @property
    def step_count(self) -> int:
        """Actions taken, failed ones included."""
        return len(self.actions)

    def check_is_of(self, spec: EnvSpec, config_json: str, guest_hash: str) -> None:
        """Refuses to go on with another task.

        Raises:
          ValueError: when the state is of another environment, source, config or guest.
        """
        expected = {
            "env_id": spec.env_id,
            "source_sha256": source_sha256(spec),
            "config_json": config_json,
            "guest_hash": guest_hash,
        }
        for name, value in expected.items():
            found = getattr(self, name)
            if found != value:
                raise ValueError(f"the state's {name} is {found!r}, this episode's is {value!r}")

    def to_json(self) -> str:
        """Everything but the image; going back to it then means making all its calls again."""
        guest = dataclasses.replace(self.guest, checkpoint=None)
        return json.dumps(dataclasses.asdict(dataclasses.replace(self, guest=guest)))

    @staticmethod
    def from_json(text: str) -> "EnvState":
        """The state that `to_json` wrote."""
        fields = json.loads(text)
        guest = fields["guest"]
        calls = tuple(
            GuestCall(tuple(actions), tuple(told), max_oracle_calls)
            for actions, told, max_oracle_calls in guest["calls"]
        )
        fields["guest"] = GuestState(calls=calls, fuel_used=guest["fuel_used"])
        fields["actions"], fields["observations"] = map(tuple, (fields["actions"], fields["observations"]))
        return EnvState(**fields)


def source_sha256(spec: EnvSpec) -> str:
    """Names an environment's source."""
    return hashlib.sha256(spec.source.encode("utf-8", "surrogatepass")).hexdigest()

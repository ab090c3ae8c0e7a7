"""`codegym plan`: does a run fit on these devices, what takes the memory, and what moves between them?

From shapes alone (`plan_shapes`): no weights, no accelerator, on any machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegym_jax.config import RunConfig
from codegym_jax.models.devices import Devices, parse_devices
from codegym_jax.pipelines import plan_bytes
from codegym_jax.pipelines.plan_bytes import Item
from codegym_jax.pipelines.plan_collectives import Transfer, transfers
from codegym_jax.pipelines.plan_shapes import Shapes, resolve

HEADROOM = 0.10
"""Share of a device's memory that a plan leaves for programs, fragments, and what it does not foresee."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one device needs."""

    title: str
    devices: Devices
    shape: tuple[str, ...]
    """What is laid out how, one line each."""
    resident: Sequence[Item]
    learning: Mapping[str, Sequence[Item]]
    """By what is done, one after the other."""
    sampling: Sequence[Item]
    overlaps: bool
    """Whether sampling goes on while something is learned."""
    transfers: Sequence[Transfer]
    notes: Sequence[str]
    """What the layout costs that no figure shows."""

    @property
    def peak(self) -> Sequence[Item]:
        """All that is there at the fullest moment."""
        largest = max(self.learning.values(), key=_total, default=())
        if self.overlaps:
            return (*self.resident, *largest, *self.sampling)
        return (*self.resident, *max((largest, self.sampling), key=_total))

    @property
    def peak_bytes(self) -> int:
        """The most that is there at a time."""
        return _total(self.peak)

    @property
    def fits(self) -> bool:
        """Whether the peak leaves the headroom."""
        return self.peak_bytes <= (1 - HEADROOM) * self.devices.accelerator.memory_bytes

    @property
    def hints(self) -> list[str]:
        """What to change when it does not fit: the settings behind the largest figures of the peak."""
        largest = sorted(self.peak, key=lambda item: -item.bytes)[:3]
        return [f"{item.name} ({_gb(item.bytes)} GB): {item.settings}" for item in largest]


def make_plan(config: RunConfig, devices: str) -> Plan:
    """The plan of a run on devices such as "v5p-64".

    Raises:
      ConfigError: when an axis does not divide, or a setting is impossible there.
      UserError: when there are no such devices.
    """
    found = parse_devices(devices)
    shapes = resolve(config, found)
    phases = {
        "scoring": plan_bytes.scoring(shapes),
        "learning": plan_bytes.learning(shapes),
        "optimizer's step": plan_bytes.stepping(shapes),
    }
    return Plan(
        title=f"{config.policy.preset} on {found.name}",
        devices=found,
        shape=_shape(shapes, found),
        resident=plan_bytes.resident(shapes),
        learning={name: items for name, items in phases.items() if items},
        sampling=plan_bytes.sampling(shapes),
        overlaps=shapes.overlaps,
        transfers=transfers(shapes),
        notes=_notes(shapes),
    )


def render(plan: Plan) -> str:
    """The plan as text, at most 110 columns wide."""
    memory = plan.devices.accelerator.memory_bytes
    lines = [f"{plan.title}: {plan.devices.count} x {_gb(memory)} GB", *(f"  {line}" for line in plan.shape)]
    lines += ["", "GB on each device"]
    for name, items in {"stays": plan.resident, **plan.learning, "sampling": plan.sampling}.items():
        lines.append(f"  {name:24}{_gb(_total(items)):>8}")
        lines += [f"    {item.name:22}{_gb(item.bytes):>8}  {item.why}" for item in items if item.bytes]
    share = plan.peak_bytes / memory
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    lines.append(
        f"  {'peak':24}{_gb(plan.peak_bytes):>8}  {share:.0%} of {_gb(memory)}: {verdict}"
        f" ({HEADROOM:.0%} are to stay free)"
    )
    if plan.transfers:
        lines += ["", "GB that each device sends"]
        lines += [
            f"  {item.name:26}{_gb(item.bytes):>8}  a {item.per}: {item.why}" for item in plan.transfers
        ]
    if plan.notes:
        lines += ["", *(f"note: {note}" for note in plan.notes)]
    if not plan.fits:
        lines += ["", "to make it fit, change what takes most:", *(f"  {hint}" for hint in plan.hints)]
    return "\n".join(lines)


def _shape(shapes: Shapes, devices: Devices) -> tuple[str, ...]:
    mesh, sampling = (
        " ".join(f"{name}={size}" for name, size in one.shape.items())
        for one in (shapes.mesh, shapes.sampling_mesh)
    )
    if shapes.processes > 1:
        sampling += f" in each of {shapes.processes} processes"
    lines = [f"mesh {mesh}" + (f"; to sample {sampling}" if sampling != mesh else "")]
    if not shapes.learns:
        return (*lines, "no update: train.steps and sft.steps are 0")
    lines.append(
        f"a step: {_many(shapes.updates, 'update')} of at most {_many(shapes.batches, 'batch', 'batches')} of"
        f" {_many(shapes.rows, 'row')} of {shapes.tokens:,} tokens"
        + ("; the next step is sampled meanwhile" if shapes.overlaps else "")
    )
    peak = devices.accelerator.peak_flops * devices.count
    if peak:
        flops = plan_bytes.step_flops(shapes)
        lines.append(
            f"its arithmetic, were no episode shorter: {flops:.2g} FLOP, {flops / peak:,.0f} s at peak speed"
        )
    return tuple(lines)


def _notes(shapes: Shapes) -> list[str]:
    c, notes = shapes.shape, []
    for name, mesh in {"mesh": shapes.mesh, "sampling_mesh": shapes.sampling_mesh}.items():
        tensor = mesh.shape["tensor"]
        if name == "sampling_mesh" and mesh == shapes.mesh:
            continue
        if c.query_heads % tensor:
            notes.append(
                f"{c.query_heads} query heads do not divide by {name}.tensor = {tensor}: attention is"
                f" computed whole on each of the {tensor}"
            )
        if c.kv_heads % tensor:
            notes.append(
                f"{c.kv_heads} key-value heads do not divide by {name}.tensor = {tensor}: each of the"
                f" {tensor} holds all of them, and their cache"
            )
    if shapes.sampling_mesh.shape["fsdp"] > 1:
        notes.append(
            "each token gathers all weights over fsdp; give sampling_mesh with fsdp=1 if a copy fits"
        )
    if c.max_positions and shapes.cache_tokens > c.max_positions:
        notes.append(
            f"episodes of {shapes.cache_tokens:,} tokens are longer than the model's {c.max_positions:,}"
        )
    if shapes.compute.remat != "none" and not shapes.compute.scan_layers:
        notes.append("policy.remat without policy.scan_layers: XLA may merge the two forward passes again")
    if shapes.warms_up and shapes.optimizer_name != "adamw":
        notes.append(
            "the warm start learns with adamw, whose two moments may take more than the"
            f" {_gb(plan_bytes.bytes_per_device(shapes.state.opt_state))} GB of {shapes.optimizer_name}"
        )
    return notes


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def _total(items: Sequence[Item]) -> int:
    return sum(item.bytes for item in items)


def _gb(count: int) -> str:
    """In 10^9 bytes, three digits or two decimals."""
    value = count / 1e9
    return f"{value:,.1f}" if value >= 100 else f"{value:.2f}"

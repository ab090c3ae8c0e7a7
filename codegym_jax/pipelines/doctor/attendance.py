"""What a roll call says: who is missing, who differs from the others, how far away they are."""

from collections.abc import Iterator

from codegym_jax.pipelines.doctor.finding import Finding, fail, ok, warn
from codegym_jax.pipelines.doctor.roll_call import Present, Roll

_SLOW_S = 0.05
_CLOCK_OFF_S = 1.0


def judge(roll: Roll, address: str, timeout_s: float) -> list[Finding]:
    """The findings of every process alike.

    Args:
      roll: who was there.
      address: of process 0.
      timeout_s: for which it waited.
    """
    findings = list(_who(roll, address, timeout_s))
    findings += [_same(fact, roll.present) for fact in roll.present[0].facts]
    if len(roll.present) > 1:
        findings += [_ping(roll.present[1:]), _clocks(roll.present[1:])]
    return findings


def _who(roll: Roll, address: str, timeout_s: float) -> Iterator[Finding]:
    here = ", ".join(map(str, roll.present))
    if roll.missing:
        yield fail(
            "processes",
            f"{_named(roll.missing)} of {roll.count} did not come within {timeout_s:g} s; here: {here}",
            f"look into the log of {_named(roll.missing)}; it must be started with the same command, its own"
            f" --process-id, and reach {address}",
        )
    else:
        yield ok("processes", f"all {roll.count} came: {here}")
    for one in roll.twice:
        other = next(each for each in roll.present if each.index == one.index)
        yield fail(
            "process ids",
            f"{one.index} came twice: from {one.host} (process id {one.pid}) and {other.host} ({other.pid})",
            "give each process its own --process-id, and end what is left of an earlier start",
        )
    odd = [each for each in roll.present if each.count != roll.count]
    if odd:
        told = ", ".join(f"{each.count} on process {each.index}" for each in odd)
        yield fail("process count", f"{roll.count} on process 0, {told}", "give all the same --process-count")


def _same(fact: str, present: list[Present]) -> Finding:
    """Whether all have the same."""
    holders: dict[str, list[int]] = {}
    for each in present:
        holders.setdefault(each.facts.get(fact, "nothing"), []).append(each.index)
    if len(holders) == 1:
        return ok(f"same {fact}", next(iter(holders)))
    told = "; ".join(f"{value} on {_named(indices)}" for value, indices in holders.items())
    return fail(f"same {fact}", told, "install and start the same on all hosts")


def _ping(others: list[Present]) -> Finding:
    slowest = max(others, key=lambda each: each.ping_s)
    told = f"at most {slowest.ping_s * 1e3:.2f} ms, to process {slowest.index} on {slowest.host}"
    if slowest.ping_s > _SLOW_S:
        return warn("ping", told, "run all processes in one zone: collectives wait for the slowest")
    return ok("ping", told)


def _clocks(others: list[Present]) -> Finding:
    worst = max(others, key=lambda each: abs(each.ahead_s))
    told = f"process {worst.index} on {worst.host} is {worst.ahead_s:+.3f} s off process 0"
    if abs(worst.ahead_s) > worst.ping_s + _CLOCK_OFF_S:
        return warn("clocks", told, "keep all hosts' clocks by NTP or chrony: logs and files would disagree")
    return ok("clocks", told)


def _named(indices: list[int]) -> str:
    """`process 2`, or `processes 2, 5`."""
    return f"process{'es' if len(indices) > 1 else ''} {', '.join(map(str, indices))}"

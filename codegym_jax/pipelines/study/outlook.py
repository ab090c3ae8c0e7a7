"""What a study would do, before it does it."""

from statistics import fmean

from codegym_jax.pipelines.study.conduct import Plan, result_path, runs_of, seconds_of
from codegym_jax.pipelines.study.pool import POOL


def outlook(plan: Plan) -> str:
    """The arms, the runs that are left, and how long they would take by those that are done."""
    study, runs = plan.study, [run for phase in runs_of(plan) for run in phase]
    left = [run for run in runs if not result_path(plan.folder, run).exists()]
    lines = [f"{study.title}: {len(runs)} runs of seeds {', '.join(map(str, plan.seeds))}"]
    lines.append(
        f"budget: {study.budget:,} policy tokens after the warm start, a learned one counted three times"
    )
    pool = "is made" if (plan.folder / POOL / "task_set").exists() else "is still to be made"
    lines.append(
        f"pool: {pool}; {study.pool.heldout_environments} environments held out, with their families"
    )
    width = max(map(len, plan.only))
    for name in plan.only:
        arm = study.arms[name]
        lines.append(f"  {name:{width}s}  {arm.method:8s} {arm.environments:4d} environments  {arm.about}")
    lines.append(f"left: {len(left)} runs{': ' if left else ''}{', '.join(run.label for run in left)}")
    seconds = seconds_of(plan, runs)
    if left and seconds:
        minutes = fmean(seconds.values()) * len(left) / plan.workers / 60
        lines.append(f"about {minutes:.0f} minutes, as the {len(seconds)} that are done took")
    return "\n".join(lines)

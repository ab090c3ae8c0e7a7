"""What a study does not show: of every study, and of this one by its settings and results."""

from codegym_jax.config.study import DISTILL, StudyConfig
from codegym_jax.data.splits import TEST_ENV
from codegym_jax.pipelines.study.figures import Results, point
from codegym_jax.pipelines.study.measure import SAMPLED, TITLES

_FEW_SEEDS = 5
_FLOOR = 0.05


def limits(study: StudyConfig, results: Results) -> list[str]:
    """Sentences for the page."""
    found = [*_of_floor(results), *_of_size(study), *_of_environments(study, results)]
    found += _of_arms(study, results)
    fewest = min(map(len, results.arms.values()))
    if fewest == 1:
        found.append("One seed says nothing of the others: where a point has one seed it has no interval.")
    elif fewest < _FEW_SEEDS:
        found.append(
            f"With {fewest} seeds an interval over seeds is wide (Student's t), and that it holds 0 does not"
            " say that there is no difference."
        )
    found.append(
        "Many intervals stand on this page, each for one comparison; of twenty at 95%, one is expected to"
        " miss."
    )
    return found


def _of_floor(results: Results) -> list[str]:
    """Where all are so near 0 that they cannot differ."""
    best = {
        told: max(point(rows, SAMPLED, name).mean for rows in results.arms.values())
        for name, told in TITLES.items()
    }
    return [
        f"On {told} no policy here solves more than {100 * rate:.1f}%: so near the floor, that two arms are"
        " alike says nothing, and that one is twice another is a task or two."
        for told, rate in best.items()
        if rate < _FLOOR
    ]


def _of_size(study: StudyConfig) -> list[str]:
    if study.base.policy.weights:
        return ["One model; another size, or other weights, may order the arms otherwise."]
    return [
        "The policy is small and learns from random weights: what it cannot do after the warm start says"
        " nothing of a model that was pretrained, and differences here need not hold, or have the same sign,"
        " there.",
        "The settings (learning rates, lengths of the warm start) are the same for all arms and were not"
        " tuned for each.",
    ]


def _of_environments(study: StudyConfig, results: Results) -> list[str]:
    pool = results.head["pool"]
    taken = f"{pool['qualified']:,} of {pool['environments']:,}"
    sentences = [
        f"Environments take part, {taken}, in whose short tasks copying is enough; their longer tasks, and"
        " the other environments, may order the arms otherwise. Those held out were taken by the same rule."
        if study.pool.copied_only
        else f"Environments that fit the policy's context take part, {taken}, whatever they ask for; only"
        f" {pool['learnable']:,} of those in the pool were chosen as learnable by a tiny policy, so many may"
        " be beyond it for any number of environments and any budget.",
        "More environments are more tasks, too, and with a fixed budget each is visited less often; the warm"
        " starts have the same number of updates, so that on few environments they see each task more often."
        " None of this is told apart.",
        "Unseen environments are made from the same corpora in the same way, and are drawn once: their"
        " choice is not in the intervals. They are no measure of transfer to other tools.",
        f"A success may be a guess: always answering `{pool['guess']['answer']}` solves"
        f" {100 * pool['guess'][TEST_ENV]:.1f}% of the tasks of unseen environments, without any other call."
        " Transcripts tell guesses from the use of tools; these figures do not.",
        "The tokenizer, where it is trained here, has seen the texts of all training tasks of the pool, in"
        " every arm.",
    ]
    if not study.suites.names:
        sentences.append(
            f"No suite made elsewhere was played: the policy's style, `{study.base.style}`, has no form for"
            " chats (`hermes` has)."
            if study.base.style != "hermes"
            else "No suite made elsewhere was played."
        )
    return sentences


def _of_arms(study: StudyConfig, results: Results) -> list[str]:
    sentences = [
        "The warm start counts for every arm alike and is not in the budget; what is only read (prompts,"
        " results of tools) is not counted, and neither is the time of tools.",
    ]
    if any(arm.method == DISTILL for arm in study.arms.values()):
        sentences.append(
            "`distill` samples once, from the warm start, and learns from what succeeded; doing so in several"
            " rounds is nearer to RL."
        )
    if any(arm.keep for arm in study.arms.values()):
        sentences.append(
            "Filters go by few attempts of the warm start, before it learns more; a task's rate is rough."
        )
    empty = [
        f"`{name}` of seed {seed}"
        for name, rows in results.arms.items()
        for seed, row in rows.items()
        if not row["train_tasks"]
    ]
    if empty:
        sentences.append(
            f"Nothing to learn from was found by {', '.join(empty)}: no attempt of the warm start succeeded,"
            " or no task was within the filter's bounds; these are the warm start itself."
        )
    missing = [name for name in study.arms if name not in results.arms]
    if missing:
        sentences.append(f"Not run yet: {', '.join(f'`{name}`' for name in missing)}.")
    return sentences

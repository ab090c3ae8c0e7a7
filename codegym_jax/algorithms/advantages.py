"""Credit assignment: episode rewards in, advantages out.

Every function maps `rewards_PG` (P tasks, G attempts each) to advantages of the same shape. None of them sees
a token, a config or a model. All obey the same law about attempts that the host failed: they neither learn
nor teach, whatever their reward holds.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from codegym_jax.algorithms.masked import sum_over_attempts


def group_relative(
    rewards_PG: Float[Array, "P G"],
    valid_PG: Bool[Array, "P G"],
    *,
    normalize: bool,
    epsilon: float = 1e-6,
) -> Float[Array, "P G"]:
    """Subtracts the mean reward of the task's valid attempts, and may divide by their deviation.

    With the mean m_p and the population deviation s_p over the valid attempts at task p:

        A_pg = (r_pg - m_p) / (s_p + epsilon)      normalize=True   (GRPO)
        A_pg =  r_pg - m_p                         normalize=False  (Dr. GRPO)

    Dividing gives every task the same say, however rarely its attempts differ; not dividing leaves most of it
    to the tasks that succeed about half of the time.

    Args:
      rewards_PG: episode return; unitless, in [0, 1] for every CodeGym task.
      valid_PG: False where the host failed, so the attempt says nothing about the policy.
      normalize: divide by the deviation.
      epsilon: added to the deviation, in reward units.

    Returns:
      Advantages; exactly 0 where an attempt is invalid, and for a task whose valid attempts all earned the
      same (one valid attempt included).

    Source: Shao et al. 2024, DeepSeekMath, https://arxiv.org/abs/2402.03300, section 4.1.2 (which leaves open
    whether the deviation is of the population; here it is, so that a half-solved task gets +1 and -1);
    Liu et al. 2025, Understanding R1-Zero-Like Training, https://arxiv.org/abs/2503.20783 (Dr. GRPO).
    """
    count_P1 = jnp.maximum(_valid_count(rewards_PG, valid_PG), 1.0)
    centered_PG = rewards_PG - sum_over_attempts(rewards_PG, valid_PG) / count_P1
    if normalize:
        variance_P1 = sum_over_attempts(jnp.square(centered_PG), valid_PG) / count_P1
        centered_PG = centered_PG / (jnp.sqrt(variance_P1) + epsilon)
    return jnp.where(_informative(rewards_PG, valid_PG), centered_PG, 0.0)


def leave_one_out(rewards_PG: Float[Array, "P G"], valid_PG: Bool[Array, "P G"]) -> Float[Array, "P G"]:
    """Subtracts from each reward the mean reward of its valid siblings.

    An attempt never enters its own baseline, so the policy gradient stays unbiased. With n_p valid attempts
    at task p:

        A_pg = r_pg - (sum_{h != g} r_ph) / (n_p - 1)

    Args:
      rewards_PG: episode return; unitless, in [0, 1] for every CodeGym task.
      valid_PG: False where the host failed, so the attempt says nothing about the policy.

    Returns:
      Advantages in reward units; exactly 0 where an attempt is invalid, and for a task whose valid attempts
      all earned the same (one valid attempt included).

    Source: RLOO, Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740.
    """
    sibling_count_P1 = jnp.maximum(_valid_count(rewards_PG, valid_PG) - 1.0, 1.0)
    baseline_PG = (sum_over_attempts(rewards_PG, valid_PG) - rewards_PG) / sibling_count_P1
    return jnp.where(_informative(rewards_PG, valid_PG), rewards_PG - baseline_PG, 0.0)


def globally_normalized(
    rewards_PG: Float[Array, "P G"],
    valid_PG: Bool[Array, "P G"],
    *,
    group_baseline: bool,
    epsilon: float = 1e-6,
) -> Float[Array, "P G"]:
    """Divides by the deviation over all valid attempts of the step, instead of those at one task.

    With m and s the mean and population deviation over the valid attempts at all tasks, and m_p the mean of
    those at task p:

        A_pg = (r_pg - m) / (s[r] + epsilon)          group_baseline=False  (REINFORCE++)
        A_pg = (r_pg - m_p) / (s[r - m_p] + epsilon)  group_baseline=True   (REINFORCE++ with baseline)

    One deviation for all does not blow up tasks whose attempts hardly differ. Without the group baseline an
    attempt at a hard task is blamed for the task; with it, tasks do not see one another but in the scale.

    Args:
      rewards_PG: episode return; unitless, in [0, 1] for every CodeGym task.
      valid_PG: False where the host failed, so the attempt says nothing about the policy.
      group_baseline: subtract the task's own mean instead of the step's.
      epsilon: added to the deviation, in reward units.

    Returns:
      Advantages; exactly 0 where an attempt is invalid, where all valid attempts of the step earned the same,
      and, with the group baseline, for a task whose valid attempts all earned the same.

    Source: Hu et al. 2025, REINFORCE++, https://arxiv.org/abs/2501.03262.
    """
    if not group_baseline:
        one_task = (1, rewards_PG.size)
        everyone_PG = group_relative(
            rewards_PG.reshape(one_task), valid_PG.reshape(one_task), normalize=True, epsilon=epsilon
        )
        return everyone_PG.reshape(rewards_PG.shape)
    centered_PG = group_relative(rewards_PG, valid_PG, normalize=False)
    count = jnp.maximum(_valid_count(rewards_PG, valid_PG).sum(), 1.0)
    return centered_PG / (jnp.sqrt(jnp.square(centered_PG).sum() / count) + epsilon)


def no_baseline(rewards_PG: Float[Array, "P G"], valid_PG: Bool[Array, "P G"]) -> Float[Array, "P G"]:
    """The rewards themselves, 0 where an attempt is invalid: a critic supplies the baseline, by token."""
    return jnp.where(valid_PG, rewards_PG, 0.0)


def _valid_count(rewards_PG: Float[Array, "P G"], valid_PG: Bool[Array, "P G"]) -> Float[Array, "P 1"]:
    return valid_PG.astype(rewards_PG.dtype).sum(axis=1, keepdims=True)


def _informative(rewards_PG: Float[Array, "P G"], valid_PG: Bool[Array, "P G"]) -> Bool[Array, "P G"]:
    """True for a valid attempt that has a valid sibling with another reward.

    Where all rewards are equal, rounding in the mean would otherwise leave about 1e-8, and dividing by a
    deviation near 0 would make a gradient of it.
    """
    highest_P1 = jnp.where(valid_PG, rewards_PG, -jnp.inf).max(axis=1, keepdims=True)
    lowest_P1 = jnp.where(valid_PG, rewards_PG, jnp.inf).min(axis=1, keepdims=True)
    return valid_PG & (highest_P1 > lowest_P1)

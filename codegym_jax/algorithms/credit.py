"""Credit assignment within an episode: which of its tokens get how much of what it earned.

Only policy tokens take part. What a tool wrote is skipped, as if the policy's tokens stood side by side, and
no credit passes from one episode of a packed row to the next.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def turn_discounts(is_policy_T: Bool[np.ndarray, " T"], *, discount: float) -> Float[np.ndarray, " T"]:
    """What is left of an episode's advantage at each token, when every turn still to come costs a share.

        factor[t] = discount ** (turns of the episode after that of token t)

    A turn is an unbroken run of policy tokens. The last turn keeps all of the credit: for a discount below
    1 an early call is praised less for a success far away, and blamed less for a failure.

    Args:
      is_policy_T: True where the policy produced the token, in one episode.
      discount: of one turn, in [0, 1]; 1 gives every token the same.

    Returns:
      The factors, float32; 0 off the policy's tokens.

    Source: the discounted return of an episodic task with turns as time steps and all reward at the end,
    Sutton and Barto 2018, Reinforcement Learning, equation 3.8.
    """
    starts_T = np.diff(is_policy_T.astype(np.int64), prepend=0) == 1
    turn_T = np.cumsum(starts_T)
    to_come_T = starts_T.sum() - turn_T
    return np.where(is_policy_T, np.float32(discount) ** to_come_T, 0.0).astype(np.float32)


def at_last_token(reward: float, is_policy_T: Bool[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """An episode's reward as rewards of its tokens: all of it at the policy's last one, where `gae` looks.

    Returns:
      Rewards, float32; all 0 in an episode without a policy token.
    """
    reward_T = np.zeros(is_policy_T.shape, np.float32)
    reward_T[np.flatnonzero(is_policy_T)[-1:]] = reward
    return reward_T


@functools.partial(jax.jit, static_argnames=("discount", "lambda_"))  # else each call compiles its loop anew
def gae(
    reward_BT: Float[Array, "B T"],
    value_BT: Float[Array, "B T"],
    is_policy_BT: Float[Array, "B T"],
    segment_BT: Int[Array, "B T"],
    *,
    discount: float,
    lambda_: float,
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Generalized advantage estimation over the policy tokens of each episode.

    With the policy tokens of an episode numbered k = 1 .. n, V_{n+1} = 0 and A_{n+1} = 0:

        delta_k = r_k + discount * V_{k+1} - V_k
        A_k     = delta_k + discount * lambda * A_{k+1}
        R_k     = A_k + V_k

    An episode that a budget cut off ends like any other, without a value to continue from: it earned what
    it earned.

    Args:
      reward_BT: earned with the token, in reward units.
      value_BT: expected return before the token is chosen, in reward units; `Scores.value_BT` of the critic
        before the step's first update.
      is_policy_BT: 1 for the policy's own tokens. What the others hold is ignored, NaN included.
      segment_BT: number of the episode within its row, 0 for padding.
      discount: of one policy token, in [0, 1].
      lambda_: in [0, 1]; 0 trusts the next value (low variance), 1 only rewards (no bias).

    Returns:
      Advantages, and returns for the critic to learn; both 0 off the policy's tokens.

    Source: Schulman et al. 2016, https://arxiv.org/abs/1506.02438, equations 11, 12 and 16.
    """

    def step(later: tuple[Array, Array, Array], token: tuple[Array, Array, Array, Array]):
        later_advantage_B, later_value_B, later_segment_B = later
        reward_B, value_B, takes_part_B, segment_B = token
        goes_on_B = segment_B == later_segment_B
        later_advantage_B = jnp.where(goes_on_B, later_advantage_B, 0.0)
        later_value_B = jnp.where(goes_on_B, later_value_B, 0.0)
        delta_B = reward_B + discount * later_value_B - value_B
        advantage_B = delta_B + discount * lambda_ * later_advantage_B
        carried_advantage_B = jnp.where(takes_part_B, advantage_B, later_advantage_B)
        carried_value_B = jnp.where(takes_part_B, value_B, later_value_B)
        return (carried_advantage_B, carried_value_B, segment_B), jnp.where(takes_part_B, advantage_B, 0.0)

    takes_part_BT = is_policy_BT > 0.0
    tokens = (reward_BT.T, value_BT.T, takes_part_BT.T, segment_BT.T)
    nothing_B = jnp.zeros(reward_BT.shape[0], reward_BT.dtype)
    end = (nothing_B, nothing_B, jnp.zeros(segment_BT.shape[0], segment_BT.dtype))
    _, advantage_TB = jax.lax.scan(step, end, tokens, reverse=True)
    advantage_BT = advantage_TB.T
    return advantage_BT, jnp.where(takes_part_BT, advantage_BT + value_BT, 0.0)


def reward_to_go(
    reward_BT: Float[Array, "B T"], is_policy_BT: Float[Array, "B T"], segment_BT: Int[Array, "B T"]
) -> Float[Array, "B T"]:
    """The sum of what the token and the policy tokens after it earn in its episode, in reward units.

    With `reward = -coefficient * k1(log-ratio to the reference)`, added to advantages that have no critic,
    this is the KL penalty in the reward: a token is charged for its own drift and for that of all it leads
    to.

    Source: Hu et al. 2025, REINFORCE++, https://arxiv.org/abs/2501.03262 (its token-level KL penalty).
    """
    nothing_BT = jnp.zeros_like(reward_BT)
    return gae(reward_BT, nothing_BT, is_policy_BT, segment_BT, discount=1.0, lambda_=1.0)[0]


def whiten(
    advantage_BT: Float[Array, "B T"], is_policy_BT: Float[Array, "B T"], *, epsilon: float = 1e-6
) -> Float[Array, "B T"]:
    """Advantages shifted and scaled to mean 0 and deviation 1 over all policy tokens given.

    A = (A - mean) / (deviation + epsilon), with the deviation of the population. Give it all tokens of a
    step at once: what it returns depends on which tokens are compared.

    Args:
      advantage_BT: what the tokens off the policy hold is ignored, NaN included.
      is_policy_BT: 1 for the policy's own tokens.
      epsilon: added to the deviation, in the unit of the advantage.

    Returns:
      Unitless advantages; 0 off the policy's tokens, and everywhere when all are the same.

    Source: Huang et al. 2024, The N+ Implementation Details of RLHF with PPO,
    https://arxiv.org/abs/2403.17031 (advantage whitening).
    """
    takes_part_BT = is_policy_BT > 0.0
    count = jnp.maximum(takes_part_BT.astype(advantage_BT.dtype).sum(), 1.0)
    mean = jnp.where(takes_part_BT, advantage_BT, 0.0).sum() / count
    centered_BT = jnp.where(takes_part_BT, advantage_BT - mean, 0.0)
    deviation = jnp.sqrt(jnp.square(centered_BT).sum() / count)
    highest = jnp.where(takes_part_BT, advantage_BT, -jnp.inf).max()
    lowest = jnp.where(takes_part_BT, advantage_BT, jnp.inf).min()
    return jnp.where(highest > lowest, centered_BT / (deviation + epsilon), 0.0)

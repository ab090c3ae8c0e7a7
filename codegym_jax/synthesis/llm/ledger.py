"""What was spent, what is promised to requests under way, and whether one more may be sent."""

import asyncio
from dataclasses import dataclass

from codegym_jax.synthesis.llm.settings import BudgetConfig


class OutOfBudget(Exception):
    """The next request might cost more than is left; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of requests."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Both kinds together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens - other.prompt_tokens, self.completion_tokens - other.completion_tokens
        )


class Ledger:
    """Lets a request go when the most that it may cost is left.

    Attributes:
      spent: on all completions so far.
      stopped_because: why requests are refused; "" while they are not.
    """

    def __init__(self, budget: BudgetConfig, spent: Usage):
        self._budget = budget
        self.spent = spent
        self.stopped_because = ""
        self._promised = Usage()
        self._under_way = 0
        self._changed = asyncio.Condition()

    def money(self, usage: Usage) -> float:
        """What tokens cost, in the currency of the prices."""
        budget = self._budget
        return (
            usage.prompt_tokens * budget.prompt_price + usage.completion_tokens * budget.completion_price
        ) / 1e6

    async def promise(self, most: Usage) -> None:
        """Sets aside the most that a request may cost, if need be after those under way have cost less.

        Raises:
          OutOfBudget: when that is not left, now or ever since an earlier request did not fit.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: bool(self.stopped_because) or self._fits(most) or not self._under_way
            )
            if not self.stopped_because and not self._fits(most):
                self.stopped_because = self._refusal(most)
                self._changed.notify_all()
            if self.stopped_because:
                raise OutOfBudget(self.stopped_because)
            self._promised += most
            self._under_way += 1

    async def settle(self, most: Usage, cost: Usage) -> None:
        """Puts what a request did cost in place of what was promised."""
        async with self._changed:
            self._promised -= most
            self._under_way -= 1
            self.spent += cost
            self._changed.notify_all()

    def _fits(self, most: Usage) -> bool:
        total = self.spent + self._promised + most
        budget = self._budget
        return (not budget.tokens or total.tokens <= budget.tokens) and (
            not budget.money or self.money(total) <= budget.money
        )

    def _refusal(self, most: Usage) -> str:
        budget, words = self._budget, []
        if budget.tokens:
            words.append(
                f"{self.spent.tokens} of {budget.tokens} tokens are spent and the next request may take"
                f" {most.tokens}"
            )
        if budget.money:
            words.append(
                f"{self.money(self.spent):.4f} of {budget.money:g} is spent and the next request may cost"
                f" {self.money(most):.4f}"
            )
        return "the budget is used up: " + "; ".join(words)

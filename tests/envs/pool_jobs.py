"""What the workers of `test_pool.py` run; spawned processes import it by name."""

import os
import time

_factor = 1


def set_factor(factor: int) -> None:
    """Prepares a worker."""
    global _factor
    if factor < 0:
        raise ValueError("the factor is negative")
    _factor = factor


def work(item: int) -> int:
    """Multiplies; 13 kills its process, 14 raises, 15 sleeps."""
    if item == 13:
        os._exit(7)
    if item == 14:
        raise ValueError("fourteen")
    if item == 15:
        time.sleep(600)
    return item * _factor

"""Randomness that is counted, not carried.

What is drawn in an epoch follows from the experiment's seed and the numbers of the epoch and the
draw, never from what was drawn before. So a training that was killed goes on as if it had not been,
with no random state to keep, and however many processes cut its patches.
"""

from __future__ import annotations

import numpy as np


def seed_of(*numbers: int) -> int:
    """One seed of 32 bits from several numbers, none of them negative.

    Mixed by numpy's ``SeedSequence``, so that neighbouring numbers share nothing.

    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])

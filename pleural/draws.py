"""Which case is drawn when, and with what chance: by the seed, the epoch and a number.

Nothing is carried from draw to draw, so an epoch can be drawn again, or by other processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import Dataset
from torch.utils.data import DistributedSampler

from pleural.chance import seed_of
from pleural.errors import InputError, root_cause


class Draw(NamedTuple):
    """A case to cut patches from, and the seed of all that is random in it."""

    case: int
    seed: int


class Draws(DistributedSampler):
    """Cases in random order, each once before any is drawn again.

    Where there are more cases than an epoch has draws, they come round over several epochs.
    Companions come after the other cases, and all together as often as one of these. Where several
    processes train, each takes its share of an epoch's draws. A ``DistributedSampler``, as
    Lightning replaces any other; the number of processes is looked up late, because their group
    does not exist yet when this is made.
    """

    def __init__(self, n_cases: int, n_draws: int, seed: int, n_companions: int = 0) -> None:
        # Only the length of what is sampled counts.
        super().__init__(range(n_cases), num_replicas=1, rank=0, seed=seed)  # type: ignore[arg-type]
        self.n_cases = n_cases
        self.n_companions = n_companions
        self.n_draws = n_draws

    def __len__(self) -> int:
        _, n_processes = rank_and_size()
        return -(-self.n_draws // n_processes)  # as many for each, or they would wait forever

    def __iter__(self) -> Iterator[Draw]:
        rank, n_processes = rank_and_size()
        n_draws, n_cases = len(self) * n_processes, self.n_cases + bool(self.n_companions)
        # Counted in rounds, as many epochs as show each case once: nothing is carried over.
        round_, since = divmod(self.epoch, -(-n_cases // n_draws))
        cases = islice(self._cases(round_, n_cases), since * n_draws, (since + 1) * n_draws)
        for number, case in islice(enumerate(cases), rank, None, n_processes):
            yield Draw(case, seed_of(self.seed, self.epoch, number))

    def _cases(self, round_: int, n_cases: int) -> Iterator[int]:
        for again in count():
            order = np.random.default_rng((self.seed, round_, again))
            for case in order.permutation(n_cases).tolist():
                if case == self.n_cases:  # stands for the companions
                    case += int(order.integers(self.n_companions))
                yield case


def rank_and_size() -> tuple[int, int]:
    """Rank of this process among those that train, and the world size."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


class Drawn(torch.utils.data.Dataset):
    """``cases`` of MONAI's kind, by draw: whatever is random in one follows from its own seed."""

    def __init__(self, cases: Dataset) -> None:
        self.cases = cases

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, draw: Draw) -> Any:
        self.cases.transform.set_random_state(draw.seed)
        try:
            return self.cases[draw.case]
        except Exception as error:
            cause = root_cause(error)  # MONAI wraps what a transform raises
            if isinstance(cause, InputError):
                cause = InputError(str(cause))  # torch hands on no other kind of ours as it is
            raise cause from None

"""How the learning rate moves: a factor on it, from how much of the training is done.

``progress`` runs from 0 to 1 whether the budget is epochs or minutes, so that every schedule
comes to its end with whichever was given. ``warmup`` is the share of the training over which the
rate first climbs from zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pleural.errors import InputError

LEAST = 1e-3  # of the rate, at the very first step


@dataclass
class _Warmed:
    warmup: float

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise InputError(
                f"scheduler.warmup is a share of the training, from 0, below 1; got {self.warmup}"
            )

    def _climb(self, progress: float) -> float:
        return max(LEAST, min(1.0, progress / self.warmup)) if self.warmup > 0 else 1.0


@dataclass
class Constant(_Warmed):
    def __call__(self, progress: float) -> float:
        return self._climb(progress)


@dataclass
class Cosine(_Warmed):
    """Half a cosine down to ``final`` times the rate (Loshchilov & Hutter, arXiv 1608.03983)."""

    final: float

    def __call__(self, progress: float) -> float:
        done = max(0.0, progress - self.warmup) / (1 - self.warmup)
        wave = (1 + math.cos(math.pi * min(1.0, done))) / 2
        return self._climb(progress) * (self.final + (1 - self.final) * wave)


@dataclass
class Poly(_Warmed):
    """``(1 - progress) ** power``, as in DeepLab (arXiv 1606.00915) and nnU-Net."""

    power: float

    def __call__(self, progress: float) -> float:
        left = max(0.0, 1 - progress)
        return self._climb(progress) * left**self.power


@dataclass
class Plateau(_Warmed):
    """Times ``factor`` after more than ``patience`` validations without a better Dice, in a row.

    Counted as torch's ``ReduceLROnPlateau`` does: with 0 the first that is no better lowers it.
    """

    patience: int
    factor: float
    best: float = field(default=-math.inf, init=False)
    waited: int = field(default=0, init=False)
    reached: float = field(default=1.0, init=False)

    def __call__(self, progress: float) -> float:
        return self._climb(progress) * self.reached

    def observe(self, dice: float) -> None:
        """To be told the Dice of every validation since patches are whole."""
        if dice > self.best:
            self.best, self.waited = dice, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.reached *= self.factor
            self.waited = 0

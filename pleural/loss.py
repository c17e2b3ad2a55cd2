"""Dice + BCE, the objective of this project; MONAI's other losses need no code here.

Shapes: logits and targets ``(B, 1, X, Y, Z)``, targets in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pleural.errors import InputError

# The target of voxels whose label is unknown. So far below 0 that, averaged or interpolated with
# fluid beside it, it stays below 0, and is never taken for tissue known to be dry.
UNKNOWN = -100.0
SURELY_NONE = -30.0  # a logit that every loss takes for no effusion found


class DiceBCE(nn.Module):
    """``dice_weight * Dice + bce_weight * BCE``, on logits, against masks or occupancies.

    Args:
        pos_weight: how much more a missed voxel of effusion costs in the BCE than an invented one.
        dice_weight, bce_weight: of the two terms.
        dice_over: ``batch``: Dice over all patches of a batch together, in which a large effusion
            outweighs small ones and what is invented elsewhere; ``patch``: the mean of each
            patch's own; ``effusion``: over all patches with effusion together, and each without
            by itself, weighed by their numbers.
        smooth: voxels that count as found in every patch (or batch). With few, a patch
            without effusion costs 1 whatever is predicted in it; with many, small effusions cost
            little.

    The Dice term is the semimetric of Wang et al. 2023 (arXiv 2303.16296): on masks the usual
    Dice, and smallest where prediction equals target for soft targets as well.
    """

    pos_weight: Tensor

    def __init__(
        self,
        pos_weight: float,
        dice_weight: float,
        bce_weight: float,
        dice_over: str,
        smooth: float,
    ) -> None:
        super().__init__()
        if dice_over not in ("batch", "patch", "effusion"):
            raise InputError(f"dice_over is batch, patch or effusion; got {dice_over!r}")
        if pos_weight <= 0:
            raise InputError(f"loss.pos_weight is above 0; got {pos_weight}")
        if smooth <= 0:  # with none, patches without effusion have no gradient that is a number
            raise InputError(f"loss.smooth is above 0; got {smooth}")
        self.dice_over = dice_over
        self.dice_weight = dice_weight
        self.bce_weight = bce_weight
        self.smooth = smooth
        self.register_buffer("pos_weight", torch.tensor(float(pos_weight)))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns a scalar."""
        logits = logits.float()
        bce = binary_cross_entropy_with_logits(logits, target, pos_weight=self.pos_weight)
        loss: Tensor = self.dice_weight * self._dice(logits, target) + self.bce_weight * bce
        return loss

    def _dice(self, logits: Tensor, target: Tensor) -> Tensor:
        """The term, from sums over each patch, so that no way to combine them costs more."""
        probability = logits.sigmoid()
        predicted, wanted, differing = (
            values.flatten(1).sum(dim=1)
            for values in (probability, target, (probability - target).abs())
        )
        total = predicted + wanted
        if self.dice_over == "batch":
            return self._lacking(differing.sum(), total.sum())
        of_each = self._lacking(differing, total)
        if self.dice_over == "patch":
            return of_each.mean()
        has = wanted > 0
        together = self._lacking((differing * has).sum(), (total * has).sum())
        return torch.where(has, together, of_each).mean()

    def _lacking(self, differing: Tensor, total: Tensor) -> Tensor:
        """What a Dice lacks to 1."""
        return differing / (total + self.smooth)


class KnownOnly(nn.Module):
    """Another loss, over what is known.

    Where a target is below 0, as :data:`UNKNOWN` is and what was interpolated towards it, nothing
    that is predicted costs or teaches anything.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.loss(*known(logits, target))
        return loss


def known(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The two, with no effusion found and none there where the target is unknown."""
    unknown = target < 0
    return logits.masked_fill(unknown, SURELY_NONE), target.masked_fill(unknown, 0.0)

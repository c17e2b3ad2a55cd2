"""When a training has stood still for too long."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping


class Patience(EarlyStopping):
    """Ends a training after so many validations without a better Dice.

    None counts while patches are halved: what is learnt from them does not show in whole scans yet.
    The module it watches says so (``halving``).
    """

    def __init__(self, n_validations: int) -> None:
        super().__init__(
            "val/dice", mode="max", patience=n_validations, check_on_train_epoch_end=False
        )

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not pl_module.halving:
            super().on_validation_end(trainer, pl_module)

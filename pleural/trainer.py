"""Lightning's trainer with what it cannot choose by itself."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from pytorch_lightning import Trainer

from pleural.hardware import precision as fastest_precision

# Said on every run, and of no use to who runs it.
for _noise in (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*GPU available but not used.*",
    ".*isinstance.treespec, LeafSpec.*",
):
    warnings.filterwarnings("ignore", message=_noise)


def trainer(precision: str, accelerator: str, **options: Any) -> Trainer:
    """A ``Trainer``; ``precision="auto"`` takes the fastest of this machine, and says so.

    The run's own callbacks write checkpoints and pictures, so Lightning's defaults are off.
    """
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    if precision == "auto":
        precision = fastest_precision(accelerator)
        print(f"precision {precision} (the fastest here; choose with trainer.precision=...)")
    return Trainer(
        precision=precision,  # type: ignore[arg-type]
        accelerator=accelerator,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )

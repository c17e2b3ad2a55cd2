"""Lightning's trainer with what it cannot choose by itself."""

from __future__ import annotations

import logging
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from pleural.errors import InputError, one_line
from pleural.hardware import fastest_device, fastest_precision
from pleural.run_folder import save_tensors

# Said on every run, and of no use to who runs it.
for _noise in (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*GPU available but not used.*",
    ".*have no `val_dataloader`.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*sync_dist=True.* when logging on epoch level.*",  # the Dice is the same in all processes
):
    warnings.filterwarnings("ignore", message=_noise)

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def trainer(
    precision: str, accelerator: str, max_epochs: int, max_time: Any, **options: Any
) -> Trainer:
    """A ``Trainer``; ``"auto"`` takes the fastest device and precision of this machine.

    It says which precision.

    With ``max_time`` the budget is this time, whatever ``max_epochs`` says.

    Raises:
        InputError: no budget, a precision of the weights themselves, Apple's GPU, or Lightning
            cannot make a trainer of the options, such as one for a GPU that is not here.
    """
    tell = rank_zero_only(print)
    if max_time is not None:
        if not isinstance(max_time, str | dict | timedelta):
            raise InputError(
                "trainer.max_time is days:hours:minutes:seconds, such as 00:00:15:00 for a quarter "
                f"of an hour; got {max_time}"
            )
        tell(f"training ends after {max_time} (trainer.max_time), however many epochs that are")
    elif type(max_epochs) is not int or max_epochs < 1:
        raise InputError(f"epochs is a number of them, 1 or more; got {max_epochs}")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    if accelerator == "auto":
        accelerator = fastest_device()
    if precision == "auto":
        precision = fastest_precision(accelerator)
        tell(f"precision {precision} (the fastest here; choose with trainer.precision=...)")
    try:
        made = Trainer(
            precision=precision,  # type: ignore[arg-type]
            accelerator=accelerator,
            max_epochs=max_epochs if max_time is None else -1,
            max_time=max_time,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            plugins=[WholeCheckpoints()],
            log_every_n_steps=1,
            **options,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(f"trainer: {one_line(error)}") from error
    if made.strategy.root_device.type == "mps":
        raise InputError(
            "trainer: Apple's GPU has no double precision, in which Dice is summed: trainer=auto, "
            "or trainer.accelerator=cpu"
        )
    if made.precision not in PRECISIONS:
        raise InputError(
            f"trainer.precision is auto, {', '.join(PRECISIONS)}, as weights and prepared volumes "
            f"are in single precision; got {precision}"
        )
    return made


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there.

    Lightning's own are written to the system's temporary folder first and, where that lies on
    another disk, copied from there: a process killed meanwhile leaves a torn one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        save_tensors(checkpoint, Path(path))

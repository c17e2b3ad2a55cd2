"""The edge of the configuration: from what Hydra composed to objects, and back to the person.

Nothing heavy is imported before a mistake can be told.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from traceback import format_exc
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from pleural.errors import InputError, as_input_error, one_line
from pleural.idle import idle
from pleural.io.whole import read_json, write_text
from pleural.place import another_training, spared
from pleural.settings import digest
from pleural.sweep import REASON, quoted, short
from pleural.tracking import end_wandb, tracked_name, wandb_id

# Names and places of folders, which conf/config.yaml asks for, and of what is tracked, conf/logger.
for _resolver in (short, spared, tracked_name, wandb_id):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)


def build_task(config: DictConfig) -> Any:
    """The task with all its parts, ready to be called; everything random is seeded first.

    Raises:
        InputError: a value that only the user knows is missing, or refers to one that is not there;
            a part refuses its values, or it needs a package that is not here.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
    except InterpolationKeyError as error:
        raise InputError(one_line(error)) from error
    if missing:
        raise InputError("\n".join(_missing(config, key) for key in missing))
    if type(config.seed) is not int or not 0 <= config.seed < 2**32:
        raise InputError(f"seed is a whole number from 0 to {2**32 - 1}; got {config.seed}")
    _check_experiments()
    config.settings = digest(config)
    from pytorch_lightning import seed_everything  # takes seconds, so not before it is needed
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only(_tell_idle)(config)
    seed_everything(config.seed, workers=True, verbose=False)  # before any weight is drawn
    try:
        return instantiate(config.task, _convert_="all")
    except InstantiationException as error:
        raise as_input_error(error, one_line(error)) from error


def _check_experiments() -> None:
    """Of a group that is chosen twice, Hydra keeps the last choice without a word."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    chosen = [one.partition("=")[2] for one in typed if one.startswith("experiment=")]
    if len({*chosen}) > 1:
        names = ",".join(name.strip("[] ") for name in chosen)
        raise InputError(
            f"experiment is given twice, and only {chosen[-1]} would count; for both, the later "
            f"over the earlier: 'experiment=[{names}]'"
        )


def of_job(config: DictConfig, script: Path) -> float:
    """What the job of a sweep that Hydra just began comes to.

    NaN if it failed: the other jobs go on, and its folder says why. A training by several
    processes gets one of its own first, `python run.py` for this job alone: their group can be
    founded once in a process, and each starts the others by the command it was started with.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / REASON).unlink(missing_ok=True)
    try:
        if why := another_training(folder, config):
            raise InputError(why)
        if _several_processes(config):
            return _in_process_of_its_own(script, folder)
        return float(build_task(config)())
    except Exception as error:
        end_wandb(exit_code=1)
        if config.debug:
            raise
        told = str(error) if isinstance(error, InputError | OSError) else format_exc()
        print(told, file=sys.stderr)
        write_text(folder / REASON, told)
        return math.nan
    finally:
        end_wandb(exit_code=0)


def _several_processes(config: DictConfig) -> bool:
    number = OmegaConf.select(config, "task.trainer.devices", default=1)
    nodes = OmegaConf.select(config, "task.trainer.num_nodes", default=1)
    return bool((number, nodes) != (1, 1))


def _in_process_of_its_own(script: Path, folder: Path) -> float:
    typed = [*HydraConfig.get().overrides.task, f"hydra.run.dir={quoted(folder)}"]
    done = subprocess.run([sys.executable, str(script), *typed])
    if done.returncode:
        raise InputError(f"{folder}: its process ended with exit code {done.returncode}")
    dice = (read_json(folder / "run.json") or {}).get("dice")
    return math.nan if dice is None else float(dice)


def _tell_idle(config: DictConfig) -> None:
    """What was typed and changes nothing must not look as if it did."""
    if HydraConfig.initialized() and (unheard := idle(config, HydraConfig.get().overrides.task)):
        task = HydraConfig.get().runtime.choices["task"]
        print(f"changes nothing with task={task}: {', '.join(unheard)}", file=sys.stderr)


def _missing(config: DictConfig, key: str) -> str:
    told = f"{key} is missing: add {key}=..."
    if key.startswith("data."):
        layout = getattr(get_class(config.data._target_), "LAYOUT", None)
        if layout:
            told += f"\nExpected there:\n{layout}"
    return told

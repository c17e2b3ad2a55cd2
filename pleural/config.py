"""The edge of the configuration: from what Hydra composed to objects, and back to the person.

Nothing heavy is imported before a mistake can be told.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from traceback import format_exc
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pleural.errors import InputError, missing_package, one_line, root_cause
from pleural.io.whole import read_json, write_text
from pleural.settings import differing, digest
from pleural.sweep import REASON, quoted, short
from pleural.words import listed

N_STARTED = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # how many processes, by torchrun and srun

OmegaConf.register_new_resolver("short", short, replace=True)  # of a sweep's folders


def build_task(config: DictConfig) -> Any:
    """The task with all its parts, ready to be called; everything random is seeded first.

    Raises:
        InputError: a value that only the user knows is missing, a part refuses its values, or it
            needs a package that is not here.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise InputError("\n".join(_missing(config, key) for key in missing))
    if type(config.seed) is not int or not 0 <= config.seed < 2**32:
        raise InputError(f"seed is a whole number from 0 to {2**32 - 1}; got {config.seed}")
    config.settings = digest(config)
    from pytorch_lightning import seed_everything  # takes seconds, so not before it is needed

    seed_everything(config.seed, workers=True, verbose=False)  # before any weight is drawn
    try:
        return instantiate(config.task, _convert_="all")
    except InstantiationException as error:
        cause = root_cause(error)
        if isinstance(cause, InputError):
            raise cause from None
        if isinstance(cause, ImportError):
            raise missing_package(cause) from error
        raise InputError(one_line(error)) from error


def of_job(config: DictConfig, script: Path) -> float:
    """What the job of a sweep that Hydra just began comes to.

    NaN if it failed: the other jobs go on, and its folder says why. A training by several
    processes gets one of its own first, `python run.py` for this job alone: their group can be
    founded once in a process, and each starts the others by the command it was started with.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / REASON).unlink(missing_ok=True)
    try:
        if why := _another_training(folder, config):
            raise InputError(why)
        if _several_processes(config):
            return _in_process_of_its_own(script, folder)
        return float(build_task(config)())
    except Exception as error:
        if config.debug:
            raise
        told = str(error) if isinstance(error, InputError | OSError) else format_exc()
        print(told, file=sys.stderr)
        write_text(folder / REASON, told)
        return math.nan


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


def spared(subdir: str, *, _root_: DictConfig) -> str | None:
    """Below a job's folder, where Hydra writes its configuration; nowhere over another's."""
    folder = OmegaConf.select(_root_, "hydra.runtime.output_dir")
    return None if folder and _another_training(Path(folder), _root_) else subdir


OmegaConf.register_new_resolver("spared", spared, replace=True)


def _another_training(folder: Path, config: DictConfig) -> str | None:
    """What to tell where ``folder`` holds a training that is not this one."""
    if not any(folder.glob("*")):  # not there, or made for this one
        return None
    from pleural.run_folder import CONFIG, RunFolder  # takes seconds, as torch comes with it

    run = RunFolder(folder)
    try:
        if not run.holds_weights or (run.load_record() or {}).get("settings") == digest(config):
            return None
        own = OmegaConf.load(folder / CONFIG)
        if not isinstance(own, DictConfig):
            raise InputError(f"{CONFIG} holds no settings")
        differ = listed(differing(own, config)) or "which are lost"
        if OmegaConf.select(own, "task._target_") != config.task._target_:
            differ = "those of another task"
    except (InputError, OSError, YAMLError, OmegaConfBaseException) as error:
        differ = one_line(error)
    return (
        f"{folder} holds a training with other settings ({differ}): to go on with it, give it "
        "the same; else name another folder"
    )


class Place(Callback):
    """Tells before anything is built that there would be no one folder for the results.

    Or that there is one which holds a training already: Hydra would write over its configuration.
    Which folder a job of a sweep has is known when it begins, see :func:`spared`.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        processes = max(int(os.environ.get(name, 1)) for name in N_STARTED)
        typed = [*config.hydra.overrides.task, *config.hydra.overrides.hydra]
        if processes > 1 and not any(o.startswith(("name=", "hydra.run.dir=")) for o in typed):
            self._refuse(
                f"{processes} processes were started, and each would write to a folder of its own: "
                "give them one with name=..."
            )
        self._check_name(config)
        folder = Path(config.hydra.run.dir)
        if why := _another_training(folder, config):
            self._refuse(why)
        self._try(folder)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        self._check_name(config)
        swept = OverridesParser.create().parse_overrides([*config.hydra.overrides.task])
        unnamed = config.hydra.job.config.override_dirname.exclude_keys
        for override in swept:
            if override.is_sweep_override() and override.key_or_group in unnamed:
                self._refuse(
                    f"{override.key_or_group} names no folder, so all jobs of this sweep would "
                    "write to one: give a command for each value, with a name=... of its own"
                )
        self._try(Path(config.hydra.sweep.dir))

    def _check_name(self, config: DictConfig) -> None:
        name = str(OmegaConf.select(config, "name") or "").strip()
        if not name or ".." in Path(name).parts or Path(name).is_absolute():
            self._refuse(f"name={name} names no folder below outputs/: give it another name=...")

    def _try(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            self._refuse(
                f"{folder}: results cannot be written there ({error.strerror}); run where they "
                "can, or name another folder with hydra.run.dir=... (of a sweep: hydra.sweep.dir)"
            )

    def _refuse(self, why: str) -> NoReturn:
        print(why, file=sys.stderr)
        raise SystemExit(2)  # what else is raised in a callback, Hydra only warns of


def _missing(config: DictConfig, key: str) -> str:
    told = f"{key} is missing: add {key}=..."
    if key.startswith("data."):
        layout = getattr(get_class(config.data._target_), "LAYOUT", None)
        if layout:
            told += f"\nExpected there:\n{layout}"
    return told

"""Where results go: a folder of their own, in which nothing is lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pleural.errors import InputError, one_line
from pleural.settings import differing, digest
from pleural.words import listed

N_STARTED = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # how many processes, by torchrun and srun


def spared(subdir: str, *, _root_: DictConfig) -> str | None:
    """Below a job's folder, where Hydra writes its configuration; nowhere over another's."""
    folder = OmegaConf.select(_root_, "hydra.runtime.output_dir")
    return None if folder and another_training(Path(folder), _root_) else subdir


def another_training(folder: Path, config: DictConfig) -> str | None:
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
        if why := another_training(folder, config):
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
        parts = Path(name).parts  # none of "."
        if not parts or ".." in parts or Path(name).is_absolute():
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

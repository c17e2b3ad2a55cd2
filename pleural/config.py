"""The edge of the configuration: from what a person typed to objects, and back to the person.

With ``run.py`` and ``sweep.py`` the only place that knows Hydra; nothing heavy is imported before
a mistake can be told.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryFile
from traceback import format_exc
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pleural.errors import InputError, missing_package, one_line, root_cause
from pleural.io.whole import read_json, write_text
from pleural.settings import digest
from pleural.sweep import REASON, quoted, short

OVERRIDES, STARTED = ".hydra/overrides.yaml", ".hydra/hydra.yaml"  # Hydra writes them
NAMES_MORE = re.compile(r"_target_|^[+~]*hydra|\$\{[^}]*:")


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


def resumed(arguments: Sequence[str]) -> list[str]:
    """``resume=RUN``, if it is there, as the command of that run, given again for its folder.

    Options that only say where or how it is told (``debug=true``) may follow; others make it
    another training, which is refused when the folder is looked at. A folder may come from
    anywhere, so what it says to type may choose and set, but not name something to be called. What
    is relative in it counts from where the run was started, and that becomes the working folder.

    Raises:
        InputError: there is no such run, or it asks for more than that.
    """
    folders = [Path(a.partition("=")[2]) for a in arguments if a.startswith("resume=")]
    if not folders:
        return [*arguments]
    folder = folders[-1].expanduser().absolute()
    try:
        typed = [str(override) for override in OmegaConf.load(folder / OVERRIDES)]
        started = OmegaConf.load(folder / STARTED).hydra.runtime.cwd
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise InputError(
            f"resume={folder}: is not the folder of a training ({one_line(error)}): name one below "
            "outputs/train"
        ) from error
    for override in typed:
        if NAMES_MORE.search(override):
            raise InputError(
                f"{folder / OVERRIDES} asks for {override}, which could run anything: if you trust "
                "it, give the whole command yourself, with hydra.run.dir in place of resume"
            )
    if Path(started).is_dir():
        os.chdir(started)
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    return [*typed, *others, f"hydra.run.dir={quoted(folder)}"]


class Place(Callback):
    """Tells before anything is built that there would be no one folder for the results."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        processes = max(int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "SLURM_NTASKS"))
        typed = [*config.hydra.overrides.task, *config.hydra.overrides.hydra]
        if processes > 1 and not any(o.startswith(("name=", "hydra.run.dir=")) for o in typed):
            self._refuse(
                f"{processes} processes were started, and each would write to a folder of its own: "
                "give them one with name=..."
            )
        self._try(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        self._try(Path(config.hydra.sweep.dir))

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


def suggestions(arguments: Sequence[str], conf: Path) -> list[str]:
    """For each override that names what is not there, the nearest name that is.

    Keys added with ``+`` and whatever Hydra itself cannot parse are left to Hydra to judge.
    """
    try:
        typed = [argument for argument in arguments if not argument.startswith("-")]
        overrides = OverridesParser.create().parse_overrides(typed)
    except HydraException:
        return []
    options = {
        str(folder.relative_to(conf)): sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in conf.iterdir()
        if folder.is_dir()
    }
    chosen = [
        (override.key_or_group, str(value))
        for override in overrides
        if override.key_or_group in options
        for value in _values(override)
    ]
    hints = [
        _nearest(f"{group}={option}", [f"{group}={valid}" for valid in options[group]])
        for group, option in chosen
        if option not in options[group]
    ]
    valid = [f"{group}={option}" for group, option in chosen if option in options[group]]
    keys = sorted({*_keys_of(conf, valid), *options})
    for override in overrides:
        key = override.key_or_group
        ours = not (override.is_add() or override.is_force_add() or key.startswith("hydra"))
        if ours and key not in keys:
            hints.append(_nearest(key, keys))
    return hints


def _values(override: Override) -> list[Any]:
    """One, or each of a sweep's."""
    value = override.value()
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def _nearest(name: str, valid: Sequence[str]) -> str:
    near = get_close_matches(name, valid, n=1, cutoff=0.3)
    return f"{name} is not known; did you mean {near[0]}?" if near else f"{name} is not known"


def _keys_of(conf: Path, choices: Sequence[str]) -> Iterator[str]:
    """Every key of the configuration with these choices of groups, dotted."""
    with initialize_config_dir(str(conf), version_base="1.3"):
        try:
            config = compose("config", overrides=list(choices))
        except HydraException:
            return
    yield from _dotted(OmegaConf.to_container(config, resolve=False), "")


def _dotted(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _dotted(value, f"{prefix}{key}.")


def _missing(config: DictConfig, key: str) -> str:
    told = f"{key} is missing: add {key}=..."
    if key.startswith("data."):
        layout = getattr(get_class(config.data._target_), "LAYOUT", None)
        if layout:
            told += f"\nExpected there:\n{layout}"
    return told

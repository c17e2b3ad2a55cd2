"""The edge of the configuration: from what a person typed to objects, and back to the person.

With ``run.py`` and ``sweep.py`` the only place that knows Hydra; nothing heavy is imported before
a mistake can be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from pleural.errors import InputError, missing_package, one_line, root_cause
from pleural.settings import digest


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

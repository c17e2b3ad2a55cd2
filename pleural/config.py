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
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from pleural.errors import InputError

# Which extra of pyproject.toml brings a package that an option needs.
EXTRA_OF = {"einops": "transformers", "wandb": "wandb", "mlflow": "mlflow"}


def build_task(config: DictConfig) -> Any:
    """The task with all its parts, ready to be called.

    Raises:
        InputError: a value that only the user knows is missing, or a part refuses its values.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise InputError("\n".join(_missing(config, key) for key in missing))
    try:
        return instantiate(config.task, _convert_="all")
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        if isinstance(cause, ImportError):
            extra = EXTRA_OF.get(cause.name or "", cause.name)
            raise InputError(f"{cause}: pip install 'pleural[{extra}]'") from error
        raise


def suggestions(arguments: Sequence[str], conf: Path) -> list[str]:
    """For each override that cannot be right, the nearest valid name; empty if there is none."""
    overrides = [a for a in arguments if not a.startswith("-")]
    groups = {
        str(folder.relative_to(conf)): sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in conf.iterdir()
        if folder.is_dir()
    }
    hints, choices = [], []
    for override in OverridesParser.create().parse_overrides(overrides):
        key, value = override.key_or_group, override.value()
        if key in groups and isinstance(value, str):
            if value in groups[key]:
                choices.append(f"{key}={value}")
            else:
                hints.append(_nearest(f"{key}={value}", [f"{key}={o}" for o in groups[key]]))
    keys = {*_keys_of(conf, choices), *groups}
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key not in keys and not key.startswith("hydra"):
            hints.append(_nearest(key, sorted(keys)))
    return hints


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
    group = config.get(key.split(".")[0])
    told = f"{key} is missing: add {key}=..."
    if isinstance(group, DictConfig) and "_target_" in group:
        layout = getattr(get_class(group._target_), "LAYOUT", None)
        if layout:
            told += f"\nExpected there:\n{layout}"
    return told

"""A digest of what was asked for, which tells whether a finished run is of this configuration."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

INTO_LIST = re.compile(r"\.\d+(?:\.|$)")  # in a key that leads into a list
NO_SETTINGS = (  # where from, where to and how: not what
    *("hydra", "name", "run_dir", "debug", "settings", "data.root", "data.path"),
    "companions.root",
    *("dataset.cache", "dataset.cache_dir", "dataset.cache_workers", "dataset.num_workers"),
    "trainer.enable_progress_bar",
)


def digest(config: DictConfig) -> str:
    """The same for two configurations that ask for the same, wherever their results go."""
    return hashlib.sha256(json.dumps(_asked(config), sort_keys=True).encode()).hexdigest()


def differing(one: DictConfig, other: DictConfig) -> list[str]:
    """Dotted keys of the settings that one has otherwise than the other, or alone."""
    a, b = _asked(one), _asked(other)
    return sorted(key for key in a.keys() | b.keys() if a.get(key, ...) != b.get(key, ...))


def dotted(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of nested dicts, groups before what is in them, with its value.

    >>> list(dotted({"a": {"b": 1}}))
    [('a', {'b': 1}), ('a.b', 1)]
    """
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}", value
            yield from dotted(value, f"{prefix}{name}.")


def _asked(config: DictConfig) -> dict[str, Any]:
    """The leaves that are settings."""
    keys = dotted(OmegaConf.to_container(config, resolve=False))
    leaves = {key: value for key, value in keys if not (value and isinstance(value, dict))}
    left_out = tuple(f"{key}." for key in NO_SETTINGS)  # and all below them
    return {key: value for key, value in leaves.items() if not f"{key}.".startswith(left_out)}

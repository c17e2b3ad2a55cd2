"""What was asked for, in one number: by it a finished run and its own configuration are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

NO_SETTINGS = (  # where from, where to and how: not what
    *("hydra", "name", "run_dir", "debug", "settings", "data.root", "data.path"),
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


def _asked(config: DictConfig) -> dict[str, Any]:
    return dict(_dotted(OmegaConf.to_container(config, resolve=False), ""))


def _dotted(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if key in NO_SETTINGS:
        return
    if not isinstance(node, dict) or not node:
        yield key, node
        return
    for name, value in node.items():
        yield from _dotted(value, f"{key}.{name}" if key else str(name))

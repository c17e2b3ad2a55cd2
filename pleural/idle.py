"""Settings that were typed but that the chosen task does not ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

from pleural.settings import dotted

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
WHAT_WAS_TYPED = "${hydra:overrides.task}"  # a task that asks for this hears everything
OF_EVERY_TASK = ("task", "name", "run_dir", "seed", "debug")


def idle(config: DictConfig, typed: Iterable[str]) -> list[str]:
    """Those overrides whose keys neither the task nor anything that it refers to has.

    Choices of what is no key of the configuration (``experiment=quick``) pass: they set many keys,
    of which some may be heard.
    """
    nodes = dict(dotted(OmegaConf.to_container(config, resolve=False)))
    heard = _heard(nodes)
    if heard is None:
        return []
    keyed = [(override, override.lstrip("+~").partition("=")[0]) for override in typed]
    return [
        override
        for override, key in keyed
        if key.partition(".")[0] in nodes and not any(_within(key, other) for other in heard)
    ]


def _heard(nodes: dict[str, object]) -> set[str] | None:
    """The keys that reach the task, each with all below it; None: every one."""
    heard, waiting = set(OF_EVERY_TASK), ["task"]
    while waiting:
        text = json.dumps(nodes.get(waiting.pop()))
        if WHAT_WAS_TYPED in text:
            return None
        found = set(REFERENCE.findall(text)) - heard
        heard |= found
        waiting += found
    return heard


def _within(one: str, other: str) -> bool:
    """Whether one of the two keys is the other, or leads to it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")

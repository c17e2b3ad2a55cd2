"""What may be built of a configuration that comes from anywhere.

A run folder names the classes to build. A name is followed only into the packages of ``ALLOWED``,
and only to a class that is defined there.
"""

from __future__ import annotations

import pkgutil
import re
from typing import Any

from pleural.errors import InputError

ALLOWED = (
    *("pleural.model", "pleural.preprocess", "pleural.inference", "torch.nn"),
    *("monai.networks.nets", "monai.networks.blocks", "monai.inferers"),
)
REACHES_OUT = re.compile("pretrain|url|path|download|file", re.IGNORECASE)  # names of arguments
RESOLVER = re.compile(r"\$\{[^}]*:")  # ${oc.env:...} would read what is none of its business


def check_resolvers(node: Any, where: str) -> None:
    """References within the configuration are fine; functions that look elsewhere are not."""
    if isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            check_resolvers(value, where)
    elif isinstance(node, str) and RESOLVER.search(node):
        raise InputError(f"{where}: holds {node}, which would be looked up outside of it")


def check_targets(node: Any, where: str) -> None:
    """Refuse every ``_target_``, however deep, that is not a class of an allowed package.

    And every argument that would have one fetch or read something.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            if REACHES_OUT.search(str(key)) and not _reaches_nowhere(value):
                raise InputError(f"{where}.{key}: a run folder brings its weights along; remove it")
            if key == "_target_":
                _check_target(value, where)
            else:
                check_targets(value, f"{where}.{key}")
    elif isinstance(node, list):
        for value in node:
            check_targets(value, where)


def _reaches_nowhere(value: Any) -> bool:
    """``pretrained: false``, or a rate of a "path" that is dropped."""
    return value is None or value is False or (value is not True and isinstance(value, int | float))


def _check_target(name: Any, where: str) -> None:
    refusal = InputError(
        f"{where} names {name}, which is not a class of {', '.join(ALLOWED)}: nothing of this run "
        "is built; if you trust it, move the class into pleural/model.py or pleural/preprocess.py"
    )
    if not isinstance(name, str) or not _allowed(name):
        raise refusal
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{where} names {name}, which is not there") from error
    # A path may lead out of its package through what a module imports: ask where it was defined.
    if not isinstance(found, type) or not _allowed(f"{found.__module__}.{found.__qualname__}"):
        raise refusal


def _allowed(name: str) -> bool:
    return any(name.startswith(f"{package}.") for package in ALLOWED)

"""What a person typed: the command of a run that goes on, and hints for what is misspelt."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from pleural.errors import InputError, one_line
from pleural.settings import INTO_LIST, dotted
from pleural.sweep import quoted

OVERRIDES, STARTED = ".hydra/overrides.yaml", ".hydra/hydra.yaml"  # Hydra writes them
# Overrides that name more than conf/ offers.
NAMES_MORE = re.compile(r"_target_|^-|^[+~]*hydra|\$\{[^}]*:")
# Keys that take any text, so that what Hydra's grammar does not know in it is no mistake.
PATHS = ("root", "path", "images", "masks", "run", "runs", "predictions", "against", "evaluation")
FREE = ("name", "dir", "cache_dir", *PATHS)
SEVERAL = re.compile(r"^(\[|\{|choice\(|range\(|glob\()")  # values that hold more than one text
OPTION = re.compile(r"[\w-]+|\[\s*[\w-]+(\s*,\s*[\w-]+)*\s*\]")  # or several; no path out of conf/
# Options of Hydra's that take the next word.
TAKES_A_WORD = {
    *("--cfg", "-c", "--package", "-p", "--info", "-i"),
    *("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd"),
}


def resumed(arguments: Sequence[str], conf: Path) -> list[str]:
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
        # As plain YAML: who resolves what is in it has looked up what it asks for.
        overrides, about = (
            yaml.safe_load((folder / name).read_text(encoding="utf-8"))
            for name in (OVERRIDES, STARTED)
        )
        typed, started = [str(one) for one in overrides], str(about["hydra"]["runtime"]["cwd"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(
            f"resume={folder}: is not the folder of a training ({one_line(error)}): name one below "
            "outputs/train"
        ) from error
    for override in typed:
        key, _, value = override.partition("=")
        chooses = (conf / key.lstrip("+~").partition("@")[0]).is_dir()
        if NAMES_MORE.search(override) or (chooses and not OPTION.fullmatch(value)):
            raise InputError(
                f"{folder / OVERRIDES} asks for {override}, which could run anything: if you trust "
                "it, give the whole command yourself, with hydra.run.dir in place of resume"
            )
    if Path(started).is_dir():
        os.chdir(started)
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    return [*typed, *others, f"hydra.run.dir={quoted(folder)}"]


def as_typed(argument: str) -> str:
    """An override, its text in quotes where Hydra would take it for a mistake.

    Commas part the values of a sweep, as ever.

    >>> as_typed("name=müll"), as_typed("name=müll,b"), as_typed("epochs=müll")
    ("name='müll'", "name='müll','b'", 'epochs=müll')
    """
    key, equals, value = argument.partition("=")
    ours = equals and key.rpartition(".")[2] in FREE and not SEVERAL.match(value)
    if not ours or _parses(argument):
        return argument
    return f"{key}={','.join(map(quoted, value.split(',')))}"


def _parses(argument: str) -> bool:
    try:
        (override,) = OverridesParser.create().parse_overrides([argument])
    except HydraException:
        return False
    return bool(override.key_or_group)  # "=3" names none


def suggestions(arguments: Sequence[str], conf: Path) -> list[str]:
    """For each override that names what is not there, the nearest name that is.

    Of those that Hydra cannot parse, that they need quotes. Keys added with ``+`` are left to Hydra
    to judge.
    """
    typed = [
        argument
        for before, argument in pairwise(["", *arguments])
        if not argument.startswith("-") and before not in TAKES_A_WORD
    ]
    if unread := [argument for argument in typed if not _parses(argument)]:
        return [
            f"{argument} is no setting as Hydra reads it: {_in_quotes(argument)}"
            for argument in unread
        ]
    overrides = OverridesParser.create().parse_overrides(typed)
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
        key = INTO_LIST.split(override.key_or_group)[0]  # no key is known within a list
        ours = not (override.is_add() or override.is_force_add() or key.startswith("hydra"))
        if ours and key not in keys:
            hints.append(_nearest(key, keys))
    return hints


def _in_quotes(argument: str) -> str:
    key, _, value = argument.partition("=")
    if not key or not value:
        return "settings are typed as key=value"
    if SEVERAL.match(value):
        return "put each text in it in quotes, as in key=['a b',c]"
    return f"if it is text, type {shlex.quote(f'{key}={quoted(value)}')}"


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
    yield from (key for key, _ in dotted(OmegaConf.to_container(config, resolve=False)))

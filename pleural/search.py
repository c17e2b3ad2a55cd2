"""The task of a search: settings tried on folds, by Optuna, which knows what to try next."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pleural.chance import seed_of
from pleural.errors import InputError, missing_package
from pleural.io.whole import read_json, write_table, write_text
from pleural.settings import INTO_LIST, NO_SETTINGS, dotted
from pleural.sweep import quoted, taken_apart
from pleural.words import counted

RUN = Path(__file__).parents[1] / "run.py"
NOT_SHARED = re.compile(r"(task|name|fold|run_dir|debug|hydra)\b")  # of what was typed
EXPERIMENT = "experiment"  # the group that what is found is of
SHARED = "shared"  # of a study: what was typed for all of its trials
ENDED = ("COMPLETE", "PRUNED", "FAIL")
PLAIN = (int, float, str, type(None))
WORD = re.compile(r"[A-Za-z_][\w.-]*")
NO_WORDS = ("null", "true", "false", "nan", "inf")  # as Hydra reads them


def search(
    space: Sequence[Mapping[str, Any]],
    n_trials: int,
    folds: Sequence[int],
    n_startup_trials: int,
    typed: Sequence[str],
    groups: Mapping[str, str],
    seed: int,
    run_dir: str | Path,
) -> float:
    """Try settings until ``n_trials`` have ended, and write the best as an experiment.

    Each trial trains ``folds`` one after another, every one by a command of its own, in folders
    that are named by the settings: what finished is not trained again, and what was cut off goes
    on. After each fold, a trial whose mean so far is below the median of the others' is ended. A
    trial that fails is kept as failed, with its reason, and the search goes on.

    ``run_dir`` gets ``study.db`` (SQLite, Optuna's own: its dashboard reads it), ``trials.csv``,
    ``best.yaml`` (for ``conf/experiment/``) and ``trials/``.

    Args:
        space: of each a ``key``, and ``low`` and ``high`` (``log: true``: as likely halved as
            doubled; both whole: whole numbers) or ``choices``.
        n_startup_trials: drawn at random, before any is judged against others.
        typed: the command's overrides; all trials share those that do not name task or folder.
        groups: of the configuration; a ``key`` that is one chooses among its options.

    Returns:
        The best trial's mean Dice.

    Raises:
        InputError: a space that is none, no Optuna here, a search of other settings, folds or space
            in the folder, a ``fold`` among what was typed, or every trial failed.
    """
    try:
        import optuna
    except ImportError as error:
        raise missing_package(error) from error
    if not folds:
        raise InputError("task.folds names no fold, so there is nothing to judge a trial by")
    if n_trials < 1:
        raise InputError(f"task.n_trials is 1 or more; got {n_trials}")
    shared = _shared(typed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(run_dir).absolute()
    distributions = {_key(entry): _distribution(entry) for entry in space}
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name="search",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=n_startup_trials),
        load_if_exists=True,
    )
    in_common = {SHARED: shared, "task.folds": [*folds], "task.space": [*map(dict, space)]}
    _check_comparable(study, in_common, folder)
    # Of a seed of its own each time it goes on, or it would draw again what it drew at first.
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=n_startup_trials, seed=seed_of(seed, len(study.trials))
    )
    _retry_cut_off(study)
    while _n_spent(study) < n_trials:
        trial = study.ask(distributions)
        settings = _typed(trial.params)
        print(f"trial {trial.number} ({_n_spent(study) + 1} of {n_trials}): {settings}")
        _tried(study, trial, folds, [*shared, *settings], folder)
        _tell(study, folder, groups)
    done = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if not done:
        raise InputError(f"{folder}: every trial failed; trials.csv has the reasons")
    print(f"best: {study.best_value:.4f} with {study.best_params}: {folder / 'best.yaml'}")
    return float(study.best_value)


def _key(entry: Any) -> str:
    known = entry.keys() if isinstance(entry, Mapping) else ()
    if "key" not in known or not ({"low", "high"} <= {*known} or "choices" in known):
        raise InputError(
            f"task.space: {entry} has no key with low and high, or with choices, as in "
            "{key: loss.pos_weight, low: 1, high: 5}"
        )
    return str(entry["key"])


def _distribution(entry: Mapping[str, Any]) -> Any:
    from optuna import distributions

    try:
        if "choices" in entry:
            if not all(isinstance(choice, PLAIN) for choice in entry["choices"]):
                raise ValueError("choices are numbers, words, true, false or null")
            return distributions.CategoricalDistribution(entry["choices"])
        low, high, log = entry["low"], entry["high"], bool(entry.get("log"))
        if isinstance(low, int) and isinstance(high, int):
            return distributions.IntDistribution(low, high, log=log)
        return distributions.FloatDistribution(low, high, log=log)
    except (TypeError, ValueError) as error:
        raise InputError(f"task.space: {dict(entry)}: {error}") from error


def _typed(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_as_typed(value)}" for key, value in params.items()]


def _as_typed(value: Any) -> str:
    """A value as Hydra reads it back.

    >>> [_as_typed(value) for value in (None, 0.5, "effusions", "a, b", "null")]
    ['null', '0.5', 'effusions', "'a, b'", "'null'"]
    """
    if value is None:
        return "null"
    plain = not isinstance(value, str) or (WORD.fullmatch(value) and value.lower() not in NO_WORDS)
    return str(value) if plain else quoted(value)


def _ended(study: Any) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name in ENDED]


def _n_spent(study: Any) -> int:
    """Trials that count: not those that were cut off, which are tried again."""
    return sum(f"{trial.number}" not in study.user_attrs for trial in _ended(study))


def _shared(typed: Sequence[str]) -> list[str]:
    """Of the command's overrides those that each trial is given."""
    plain = [(override, override.lstrip("+~")) for override in typed]
    if folds := [override for override, key in plain if key.startswith("fold=")]:
        raise InputError(f"{folds[0]}: a search trains the folds that task.folds names")
    return [override for override, key in plain if not NOT_SHARED.match(key)]


def _check_comparable(study: Any, in_common: Mapping[str, Any], folder: Path) -> None:
    """Trials are compared, so all but what is searched is the same, folds and space as well."""
    for key, value in in_common.items():
        before = study.user_attrs.get(key, value)
        if key == SHARED:  # typed in any order
            same = sorted(before) == sorted(value)
            told = f"whose trials share {' '.join(before) or 'the default'}"
        else:
            same, told = before == value, f"of {key}={before}"
        if not same:
            raise InputError(
                f"{folder} holds a search {told}: to go on with it, give it the same; else name "
                "another"
            )
        study.set_user_attr(key, value)


def _retry_cut_off(study: Any) -> None:
    """Trials that a killed search left unfinished are tried first; their folds go on."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.enqueue_trial(trial.params)
        study.tell(trial.number, state=TrialState.FAIL)
        study.set_user_attr(f"{trial.number}", "cut off, and tried again")


def _tried(
    study: Any, trial: Any, folds: Sequence[int], settings: Sequence[str], folder: Path
) -> None:
    from optuna.trial import TrialState

    name = sha256(json.dumps(sorted(settings)).encode()).hexdigest()[:12]
    dices: list[float] = []
    for fold in folds:
        place = folder / "trials" / name / f"fold-{fold}"
        dice, reason = _trained(place, [*settings, f"fold={fold}"])
        if dice is None:
            trial.set_user_attr("reason", reason)
            study.tell(trial, state=TrialState.FAIL)
            print(f"  fold {fold} failed: {reason}")
            return
        dices.append(dice)
        mean = float(np.mean(dices))
        trial.report(mean, step=len(dices))
        print(f"  fold {fold}: {dice:.4f}, mean {mean:.4f}", flush=True)
        if len(dices) < len(folds) and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            print("  ended early: below the median of the others")
            return
    study.tell(trial, mean)


def _trained(place: Path, settings: Sequence[str]) -> tuple[float | None, str]:
    """The Dice of one training, or why there is none."""
    quiet = ["trainer.enable_progress_bar=false", f"hydra.run.dir={quoted(place)}"]
    done = subprocess.run(
        [sys.executable, str(RUN), *settings, *quiet], capture_output=True, text=True
    )
    dice = (read_json(place / "run.json") or {}).get("dice")
    if done.returncode == 0:
        if dice is None:
            return None, "no validation case has effusion, so there is no Dice"
        return float(dice), ""
    said = done.stderr.strip().splitlines()
    return None, said[-1] if said else f"ended with exit code {done.returncode}"


def _tell(study: Any, folder: Path, groups: Iterable[str]) -> None:
    """Write the table of all trials, and the best of them as an experiment."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "dice": "" if trial.value is None else f"{trial.value:.4f}",
            "folds": len(trial.intermediate_values),
            **trial.params,
            "reason": trial.user_attrs.get("reason") or study.user_attrs.get(f"{trial.number}", ""),
        }
        for trial in _ended(study)
    ]
    write_table(folder / "trials.csv", rows)
    complete = [trial for trial in _ended(study) if trial.state.name == "COMPLETE"]
    if complete:
        best = max(complete, key=lambda trial: trial.value)
        about = (
            "# @package _global_\n"
            f"# Trial {best.number} of {len(rows)} of a search: mean Dice {best.value:.4f} over "
            f"{counted(len(best.intermediate_values), 'fold')}, of\n# which validation chose the "
            "epochs: to be measured again on others.\n"
        )
        typed = [*study.user_attrs[SHARED], *_typed(best.params)]
        held, beside = _as_settings(typed, {*groups})
        if beside:
            about += f"# Not in here, so to be given with it: {' '.join(beside)}\n"
        write_text(folder / "best.yaml", about + experiment(held, groups))


def _as_settings(typed: Sequence[str], groups: set[str]) -> tuple[dict[str, Any], list[str]]:
    """What an experiment holds of what a trial was given, and what was typed of the rest.

    Not in it are values within lists, what is taken away or added as a group, which no experiment
    can hold, and where data lie, which is nothing of the trial's.
    """
    held: dict[str, Any] = {}
    beside = []
    for override in typed:
        apart = taken_apart(override)
        key, value = apart or ("", None)
        adds_group = override.startswith("+") and key in groups
        if apart is None or adds_group or INTO_LIST.search(key) or key in NO_SETTINGS:
            beside.append(override)
        else:  # the later over the earlier, as Hydra has it
            held |= {leaf: one for leaf, one in dotted({key: value}) if not isinstance(one, dict)}
    return held, beside


def experiment(params: Mapping[str, Any], groups: Iterable[str]) -> str:
    """YAML for ``conf/experiment/``, on top of those that ``params`` may name.

    >>> print(experiment({"model": "unet2d", "optimizer.lr": 0.1}, ["model", "optimizer"]))
    defaults:
    - override /model: unet2d
    optimizer:
      lr: 0.1
    <BLANKLINE>
    """
    chosen = {key: value for key, value in params.items() if key in {*groups} - {EXPERIMENT}}
    below = params.get(EXPERIMENT) or []
    defaults: list[Any] = [below] if isinstance(below, str) else [*below]
    defaults += ["_self_"] if defaults else []
    defaults += [{f"override /{key}": value} for key, value in chosen.items()]
    content: dict[str, Any] = {"defaults": defaults} if defaults else {}
    for key, value in params.items():
        if key not in chosen and key != EXPERIMENT:
            *path, last = key.split(".")
            node = content
            for part in path:
                node = node.setdefault(part, {})
            node[last] = value
    return yaml.safe_dump(content, sort_keys=False)

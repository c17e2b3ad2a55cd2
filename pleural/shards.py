"""An archive's studies in shards: who predicts which, and the tables over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pleural.data.case import Case
from pleural.errors import InputError
from pleural.prediction_folder import NAMED, PredictionFolder
from pleural.versions import of_any_machine
from pleural.words import listed


def share(cases: Sequence[Case], shard: int | None, shards: int) -> Sequence[Case]:
    """Every ``shards``-th case, from number ``shard`` on.

    So shards have large and small, old and new studies alike.

    Raises:
        InputError: there is no such shard.
    """
    if shards == 1 and not shard:
        return cases
    if shards <= 1 or shard is None or not 0 <= shard < shards:
        raise InputError(
            f"task.shard is one of 0 to task.shards - 1; got {shard} of task.shards={shards}"
        )
    return cases[shard::shards]


def digest_of(cases: Sequence[Case]) -> str:
    """Of all cases that are shared out: shards of other cases are no parts of one whole."""
    return sha256("\n".join(case.name for case in cases).encode()).hexdigest()


def suffix(shard: int | None, shards: int) -> str:
    """What the names of a shard's own tables end with; nothing where one does it all."""
    return "" if shards == 1 else f"_{shard}_of_{shards}"


def gathered(place: Path, cases: Sequence[Case], shards: int) -> str:
    """Write tables and record over all shards, once each is done; what to tell of it."""
    whole = PredictionFolder(place)
    own = [PredictionFolder(place, suffix(shard, shards)) for shard in range(shards)]
    records = [folder.load_record() for folder in own]
    ways = [record and _way(record) for record in records]
    first = next((way for way in ways if way), None)
    waited_for = [str(shard) for shard, way in enumerate(ways) if not way or way != first]
    if waited_for:
        missing = listed(waited_for)
        unlike = sorted(
            {key for way in ways if way and first for key in way if way[key] != first[key]}
        )
        told = f" (now they differ in {listed(unlike)})" if unlike else ""
        return (
            "tables over all are written when these shards are done in the same way: "
            f"{missing}{told}"
        )
    record = dict(records[0] or {})
    for key in NAMED:  # of which older records have fewer
        record[key] = [name for r in records if r for name in r.get(key, [])]
    without = {*record["left_out"], *record["failed"]}
    names = [case.name for case in cases if case.name not in without]
    studies = [study for name in names if (study := whole.load_study(name))]
    whole.save_tables(studies, [row for folder in own for row in folder.load_failures()])
    whole.save_record(record)
    return f"all {shards} shards are done: {len(studies)} studies: {whole.cases}"


def _way(record: Mapping[str, Any]) -> dict[str, Any]:
    """How studies were predicted: with what, on whichever machine, from whichever folder."""
    way = {key: value for key, value in record.items() if key not in NAMED}
    way["versions"] = of_any_machine(way["versions"])
    return {**way, "runs": [run["weights_sha256"] for run in record["runs"]]}

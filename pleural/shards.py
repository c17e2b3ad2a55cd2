"""An archive's studies in shards: who predicts which, and the tables over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pleural.data.case import Case
from pleural.errors import InputError, listed
from pleural.prediction_folder import PredictionFolder


def share(cases: Sequence[Case], shard: int | None, shards: int) -> Sequence[Case]:
    """Every so many of them, so that shards have large and small, old and new studies alike.

    Raises:
        InputError: there is no such shard.
    """
    if shards == 1:
        return cases
    if shards < 1 or shard is None or not 0 <= shard < shards:
        raise InputError(f"task.shard is one of 0 to task.shards - 1; got {shard} of {shards}")
    return cases[shard::shards]


def part(shard: int | None, shards: int) -> str:
    """What the names of a shard's own tables end with; nothing where one does it all."""
    return "" if shards == 1 else f"_{shard}_of_{shards}"


def gathered(place: Path, cases: Sequence[Case], shards: int) -> str:
    """Write tables and record over all shards, once each is done; what to tell of it."""
    whole = PredictionFolder(place)
    own = [PredictionFolder(place, part(shard, shards)) for shard in range(shards)]
    records = [folder.load_record() for folder in own]
    lists = ("left_out", "failed")
    ways = [r and {key: r[key] for key in r if key not in lists} for r in records]
    waited_for = [shard for shard, way in enumerate(ways) if not way or way != ways[0]]
    if waited_for:
        missing = listed([str(shard) for shard in waited_for])
        return f"tables over all are written when these shards are done in the same way: {missing}"
    record = dict(records[0] or {})
    for key in lists:
        record[key] = [name for r in records if r for name in r[key]]
    without = {*record["left_out"], *record["failed"]}
    names = [case.name for case in cases if case.name not in without]
    studies = [study for name in names if (study := whole.load_study(name))]
    whole.save_tables(studies, [row for folder in own for row in folder.load_failures()])
    whole.save_record(record)
    return f"all {shards} shards are done: {len(studies)} studies: {whole.cases}"

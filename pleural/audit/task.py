"""The task of auditing: which cases of a data set are suspicious, why, and where to look."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pleural.audit.inspection import Inspection, Limits, inspect
from pleural.audit.page import page, picture
from pleural.audit.suspicions import NOTE, UNUSABLE, WRONG, Suspicion
from pleural.data.case import Case, natural
from pleural.errors import InputError, one_line
from pleural.io.whole import write_json, write_table, write_text, write_whole
from pleural.versions import versions


def audit(
    data: Any,
    run_dir: str | Path,
    fluid_hu: Sequence[float],
    most_outside_share: float,
    most_open_share: float,
    least_reader_dice: float,
    debug: bool,
) -> float:
    """Check every case of ``data`` and rank them, most suspicious first.

    A case that cannot be read is a finding like others. ``run_dir`` gets ``audit.md`` to read,
    ``audit.csv`` and ``audit.json`` to compute with, and a picture of each scan in ``pictures``.

    Args:
        data: has ``cases()``.
        fluid_hu, most_outside_share, most_open_share, least_reader_dice: see :class:`Limits`.
        debug: a case whose check fails ends it all, with a traceback.

    Returns:
        The number of cases with a suspicion.

    Raises:
        InputError: the source finds no cases, or cannot tell which files belong together.
    """
    cases, folder = data.cases(), Path(run_dir)
    limits = Limits(fluid_hu, most_outside_share, most_open_share, least_reader_dice)
    related = _related(cases)
    inspections = []
    for number, case in enumerate(cases, start=1):
        try:
            seen = _looked_at(case, limits, related[case.name], folder)
        except Exception as error:  # whatever it was, the other cases are worth going on for
            if debug:
                raise
            failed = Suspicion(UNUSABLE, f"the check failed ({one_line(error)})")
            seen = Inspection(case, [failed, *related[case.name]])
        told = f"score {seen.score:.1f}: {_headline(seen)}" if seen.score else "nothing suspicious"
        print(f"[{number}/{len(cases)}] {case.name}  {told}", flush=True)
        inspections.append(seen)
    ranked = sorted(inspections, key=lambda seen: (-seen.score, natural(seen.case.name)))
    rows = _rows(ranked, folder)
    record = {"versions": versions(), "limits": asdict(limits), "cases": rows}
    write_json(folder / "audit.json", record)
    text = page(rows)
    write_text(folder / "audit.md", text)
    write_table(folder / "audit.csv", [_flat(**row) for row in rows])
    _remove_earlier(folder, {row["picture"] for row in rows})
    print(_summary(ranked, folder))
    return float(sum(seen.score > 0 for seen in ranked))


def _looked_at(
    case: Case, limits: Limits, related: Sequence[Suspicion], folder: Path
) -> Inspection:
    """Inspected, drawn, and freed of its voxels: a whole data set does not fit into memory."""
    since = time.perf_counter()
    _drawn(folder, case).unlink(missing_ok=True)  # what an interrupted audit left
    seen = inspect(case, limits)
    seen.suspicions += related
    if seen.scan is not None:
        write_whole(_drawn(folder, case), picture(seen).savefig)
    seen.scan = seen.mask = None
    seen.facts["seconds"] = round(time.perf_counter() - since, 1)
    return seen


def _related(cases: Sequence[Case]) -> dict[str, list[Suspicion]]:
    """What only shows between cases: one image twice, one patient twice."""
    images, patients = defaultdict(list), defaultdict(list)
    for case in cases:
        patients[case.patient].append(case.name)
        try:
            images[case.image_hash].append(case.name)
        except InputError:
            continue  # told when the case is read
    found: dict[str, list[Suspicion]] = defaultdict(list)
    for groups, weight, sentence in (
        (images, WRONG, "the image is that of {}, byte for byte"),
        (patients, NOTE, "its patient has more cases ({}); a split keeps them together"),
    ):
        for names in groups.values():
            for name in names if len(names) > 1 else ():
                others = ", ".join(other for other in names if other != name)
                found[name].append(Suspicion(weight, sentence.format(others)))
    return found


def _drawn(folder: Path, case: Case) -> Path:
    """Where the picture of a case lies, hidden, before its rank is known."""
    return folder / "pictures" / f".{case.name}.png"


def _remove_earlier(folder: Path, shown: Collection[str]) -> None:
    """Pictures that an earlier audit in this folder gave other ranks, or of other cases."""
    for file in (folder / "pictures").glob("[0-9]*_*.png"):
        if file.relative_to(folder).as_posix() not in shown:
            file.unlink()


def _rows(ranked: Sequence[Inspection], folder: Path) -> list[dict[str, Any]]:
    """All that is known of each case as plain values; pictures get their rank into their names."""
    digits = max(2, len(str(len(ranked))))
    rows = []
    for rank, seen in enumerate(ranked, start=1):
        drawn, shown = _drawn(folder, seen.case), None
        if drawn.exists():
            shown = drawn.replace(drawn.with_name(f"{rank:0{digits}}_{seen.case.name}.png"))
        found = [
            {
                "weight": round(suspicion.weight, 2),
                "sentence": suspicion.sentence,
                "slice": suspicion.place and suspicion.place[2] + 1,
            }
            for suspicion in seen.ranked
        ]
        rows.append(
            {
                "rank": rank,
                "name": seen.case.name,
                "patient": seen.case.patient,
                "score": seen.score,
                "found": found,
                "picture": shown and shown.relative_to(folder).as_posix(),
                **seen.facts,
            }
        )
    return rows


def _flat(found: list[dict[str, Any]], **row: Any) -> dict[str, Any]:
    """A row for a table: the sentences in one field, their number before it."""
    first = {key: row.pop(key) for key in ("rank", "name", "patient", "score")}
    n_suspicions = sum(one["weight"] > 0 for one in found)
    sentences = "; ".join(one["sentence"] for one in found)
    return {**first, "suspicions": n_suspicions, "sentences": sentences, **row}


def _headline(seen: Inspection) -> str:
    worst, *others = [suspicion.sentence for suspicion in seen.ranked if suspicion.weight]
    return f"{worst} (and {len(others)} more)" if others else worst


def _summary(ranked: Sequence[Inspection], folder: Path) -> str:
    suspicious = [seen for seen in ranked if seen.score]
    lines = ["", f"{len(suspicious)} of {len(ranked)} cases are suspicious"]
    width = max(len(seen.case.name) for seen in ranked)
    for rank, seen in enumerate(suspicious, start=1):
        lines.append(f"{rank:4}  {seen.score:4.1f}  {seen.case.name:{width}}  {_headline(seen)}")
    return "\n".join([*lines, f"sentences and pictures: {folder / 'audit.md'}"])

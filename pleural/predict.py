"""The task of prediction: studies in, masks, measurements and what belongs to them out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pleural.clock import Clock
from pleural.data.case import Case, read_scan
from pleural.errors import Findings, InputError, one_line
from pleural.figures import preview
from pleural.held_out import Exposure, exposures_for
from pleural.io import find, nifti
from pleural.io.archive import unpacked
from pleural.io.whole import write_whole
from pleural.measure import Measurement, measure
from pleural.prediction_folder import PredictionFolder
from pleural.segmenter import CERTAIN, Segmenter
from pleural.shards import digest_of, gathered, share, suffix
from pleural.size import check_detection
from pleural.trained import Run, runs_in
from pleural.versions import of_any_machine, versions
from pleural.volume import Volume
from pleural.words import counted

SAVED_EVERY_S = 10.0  # tables over all studies, of which there may be many thousands


def predict(
    data: Any,
    runs: str | Path,
    held_out: bool,
    mirror: str | Sequence[str],
    probability: bool,
    detection_ml: float,
    identifiers: str,
    device: str,
    shard: int | None,
    shards: int,
    run_dir: str | Path,
    shared_dir: str | Path,
    debug: bool,
) -> float:
    """Predict and measure every case of ``data``, or a shard of them.

    A study that fails is noted and the others go on; what was there of it before stays. A study
    whose result is there already, by the same weights and versions from the same image in the same
    way, is not predicted again.

    Args:
        data: has ``cases()``; masks are not needed.
        runs: a run folder, or a folder of them, whose probabilities are averaged.
        held_out: predict a case only with the runs that did not train on it (see
            :mod:`pleural.held_out`); cases that all runs trained on are left out, by name.
        mirror: see :class:`Segmenter`.
        probability: also keep the probability map (8 bits, read as 0 to 1).
        detection_ml: from this volume on, a study counts as one with effusion.
        identifiers: ``drop``, or ``keep``: the patient's name, number and birth date, date and
            number of a DICOM study go into records and tables, and from there into reports.
        shard: which share of the cases to predict, 0 to ``shards - 1``; together they are all of
            them, and no case is in two. The shard that is done last writes the tables over all.
        shards: how many there are; 1 predicts all.
        run_dir: gets everything (see :class:`PredictionFolder`) where one process predicts all.
        shared_dir: gets everything where there are shards.
        debug: a study that fails ends it all, with a traceback.

    Returns:
        The number of studies with a result.

    Raises:
        InputError: bad cases or runs; or studies failed, after all others are done.
    """
    if identifiers not in ("drop", "keep"):
        raise InputError(f"task.identifiers is drop or keep; got {identifiers!r}")
    check_detection(detection_ml)
    every_case = data.cases()
    cases = share(every_case, shard, shards)
    place = Path(run_dir if shards == 1 else shared_dir).absolute()
    folder = PredictionFolder(place, suffix(shard, shards))
    # What tells a patient from a namesake may lie in another shard.
    exposures = [Exposure.of(run, every_case) for run in runs_in(runs)]
    asked = {
        "mirror": "".join(sorted(mirror or "")),
        "probability": probability,
        "detection_ml": detection_ml,
        "identifiers": identifiers,
    }
    worker = _Worker(folder, exposures, held_out, asked, device)
    for record in {folder.record, PredictionFolder(place).record}:
        record.unlink(missing_ok=True)  # it says that all is done
    studies, left_out, failures = _each(worker, cases, debug)
    named = {
        "left_out": left_out,
        "failed": [failure["name"] for failure in failures],
        "chosen_on": [study["name"] for study in studies if study["chosen_on_by"]],
    }
    folder.save_record({**worker.described(), "all_cases": digest_of(every_case), **named})
    print(f"\n{counted(len(studies), 'case')}: {folder.cases}")
    if shards > 1:
        print(gathered(place, every_case, shards))
    if failures:
        raise InputError(
            f"{len(failures)} of {len(cases)} studies failed, with reasons in {folder.failures}; "
            f"the same command with name={place.name} tries them again and keeps the others"
        )
    return float(len(studies))


def _each(
    worker: _Worker, cases: Sequence[Case], debug: bool
) -> tuple[list[dict[str, Any]], list[str], list[dict[str, str]]]:
    """Records of studies, names of those left out, and failures with their reasons."""
    studies: list[dict[str, Any]] = []
    left_out: list[str] = []
    failures: list[dict[str, str]] = []
    saved = -math.inf
    for number, case in enumerate(cases, start=1):
        try:
            study, told = worker.result(case)
        except Exception as error:  # whatever it was, the other studies are worth going on for
            if debug:
                raise
            reason = "; ".join(error.findings) if isinstance(error, Findings) else one_line(error)
            failures.append({"name": case.name, "image": str(case.image), "reason": reason})
            told = f"failed: {reason}"
        else:
            if study is None:
                left_out.append(case.name)
            else:
                studies.append(study)
        print(f"[{number}/{len(cases)}] {case.name}  {told}", flush=True)
        if number == len(cases) or time.monotonic() - saved > SAVED_EVERY_S:
            worker.folder.save_tables(studies, failures)
            saved = time.monotonic()
    return studies, left_out, failures


def _identity(run: Run) -> dict[str, str]:
    return {"path": str(run.path), "weights_sha256": run.weights_sha256}


class _Worker:
    """Predicts one study after another, with networks that are loaded once."""

    def __init__(
        self,
        folder: PredictionFolder,
        exposures: Sequence[Exposure],
        held_out: bool,
        settings: Mapping[str, Any],
        device: str,
    ) -> None:
        self.folder = folder
        self.exposures = exposures
        self.held_out = held_out
        self.settings = settings
        self.device = device
        self.versions = versions()
        self._loaded = {exposure.run.path: exposure.run.load() for exposure in exposures}
        # What would fail for every study fails at the door.
        for runs in [[e.run] for e in exposures] if held_out else [[e.run for e in exposures]]:
            self._segmenter(runs)

    def described(self) -> dict[str, Any]:
        runs = [_identity(exposure.run) for exposure in self.exposures]
        about = {"versions": self.versions, "runs": runs, "held_out": self.held_out}
        return {**about, **self.settings}

    def result(self, case: Case) -> tuple[dict[str, Any] | None, str]:
        """The record of a study, and what to tell of it in a line; ``None`` if it is left out."""
        chosen = exposures_for(case, self.exposures, self.held_out)
        if not chosen:
            return None, "left out, as every run trained on it"
        asked = {
            "image_sha256": case.image_hash,
            "weights_sha256": [exposure.run.weights_sha256 for exposure in chosen],
            # Runs of the same weights may still turn them into other masks (sure_inside=null).
            "trained_with": [exposure.run.record.get("settings") for exposure in chosen],
            **self.settings,
        }
        about = {  # told anew of what was there: other studies may tell more of this one
            "name": case.name,
            "patient": case.patient,
            "image": str(case.image.absolute()),
            "runs": [_identity(exposure.run) for exposure in chosen],
            "trained_on_by": [str(e.run.path) for e in chosen if e.trained_on(case)],
            # A validation case there has helped to choose the epoch whose weights predict it.
            "chosen_on_by": [str(e.run.path) for e in chosen if e.chosen_on(case)],
        }
        before = self._before(case.name)
        done = all(before.get(key) == value for key, value in asked.items())
        done &= of_any_machine(before.get("versions", {})) == of_any_machine(self.versions)
        done &= all(file.exists() for file in self._needed(case.name))
        if done:
            study = {**before, **about}
        else:
            found = self._predicted(case, self._segmenter([e.run for e in chosen]))
            study = {**about, **asked, **found}
        if study != before:
            self.folder.save_study(study)
        told = str(Measurement(**study["measurement"]))
        if study["unsure_ml"] > 0:
            told += f"  ({study['unsure_ml']:.1f} mL more left out as unsure)"
        return study, f"{told}  {'(was there)' if done else _time(study)}"

    def _before(self, name: str) -> dict[str, Any]:
        """The record of an earlier prediction; empty where there is none, or a torn one."""
        try:
            return self.folder.load_study(name) or {}
        except InputError as error:
            print(f"{error}: predicted anew")
            return {}

    def _needed(self, name: str) -> list[Path]:
        """Files without which a study is predicted anew, whatever its record says."""
        probability = [self.folder.probability(name)] if self.settings["probability"] else []
        return [self.folder.mask(name), *probability]

    def _segmenter(self, runs: Sequence[Run]) -> Segmenter:
        members = [self._loaded[run.path] for run in runs]
        return Segmenter(members, mirror=self.settings["mirror"], device=self.device)

    def _predicted(self, case: Case, segmenter: Segmenter) -> dict[str, Any]:
        """Write the files of a study; what is to be told of it."""
        clock, files = Clock(), self.folder
        with unpacked(case.image) as image:
            scan = read_scan(image)
            clock.lap("read")
            mask, probability, unsure_ml = segmenter.segment(scan)
            clock.lap("segment")
            measurement = measure(mask, scan, self.settings["detection_ml"])
            clock.lap("measure")
            files.discard(case.name)  # not before there is another
            grid = image if find.is_nifti(image) else None
            nifti.write(mask, files.mask(case.name), like=grid)
            if self.settings["probability"]:
                nifti.write(probability, files.probability(case.name), grid, slope=1 / CERTAIN)
            no_seg = None if grid else self._save_seg(mask, image, case)
            known = {} if grid else self._identifiers(image)
        figure = preview(scan, mask, f"{case.name}: {measurement}")
        write_whole(files.preview(case.name), figure.savefig)
        clock.lap("write")
        return {
            "measurement": asdict(measurement),
            "unsure_ml": unsure_ml,
            "known_as": known,
            "threshold": segmenter.threshold,
            "sure_inside": segmenter.sure_inside,
            "precision": segmenter.precision,
            "no_seg": no_seg,
            "seconds": clock.seconds,
            "versions": self.versions,
        }

    def _identifiers(self, series: Path) -> dict[str, str]:
        from pleural.io import dicom

        return dicom.identifiers(series) if self.settings["identifiers"] == "keep" else {}

    def _save_seg(self, mask: Volume, series: Path, case: Case) -> str | None:
        """Why it could not be written, if it could not; the study has its other results."""
        from pleural.io import dicom_seg  # highdicom is only loaded for who needs it

        algorithm, version = "pleural", self.versions["pleural"]
        try:
            dicom_seg.write(
                mask, series, self.folder.seg(case.name), algorithm=algorithm, version=version
            )
        except (InputError, RuntimeError) as error:  # the latter where it reads back otherwise
            why = str(error).replace(str(series), str(case.image))  # which may be unpacked
            print(f"no DICOM SEG: {why}")
            return why
        return None


def _time(study: dict[str, Any]) -> str:
    return f"{sum(study['seconds'].values()):.1f} s"

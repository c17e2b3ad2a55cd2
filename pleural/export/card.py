"""What an exported network says of itself to people: a model card in Markdown.

Like :mod:`pleural.export.description`, it names no case and no patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from pleural.errors import InputError
from pleural.export.description import NO_DEVICE, NOT_STATED, TASK, Json, cases_of
from pleural.io.whole import read_json
from pleural.run_folder import CONFIG, validation_chose
from pleural.start import SHIPPED
from pleural.statistics import few, mean
from pleural.summary_text import shown
from pleural.trained import Run
from pleural.words import counted

PHANTOM = "pleural.data.phantom.Phantom"
INTENDED_USE = (
    "Research on finding pleural effusion on chest CT and measuring it in mL, under the eyes of "
    "someone who can read such scans."
)
CHOSEN_BY = "Validation scans choose the best epoch, so on others expect less."
NOT_CHOSEN_BY = "The last epoch was kept: these scans chose nothing."
PARTS = ("training", "validation")
HASH_SHOWN = 12
MEASURES = {  # and the decimals to show
    "dice": ("Dice", 3),
    "nsd": ("surface Dice", 3),
    "hd95_mm": ("HD95, mm", 1),
    "sensitivity": ("sensitivity, of voxels", 3),
    "precision": ("precision, of voxels", 3),
    "absolute_volume_error_ml": ("absolute volume error, mL", 1),
}


def evaluation_of(run: Run, folder: str | Path) -> Json:
    """``summary.json`` of an evaluation; ``predicted`` is what it says of its predictions.

    Raises:
        InputError: it is no evaluation, or not of predictions by this run.
    """
    result = read_json(Path(folder).expanduser() / "summary.json")
    try:
        predicted = (result or {})["sources"]["model"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}: no summary.json of task=evaluate there") from error
    if run.weights_sha256 not in [one["weights_sha256"] for one in predicted.get("runs", [])]:
        raise InputError(
            f"{folder}: judges {predicted['folder']}, which was not predicted by {run.path}, so "
            "its figures do not belong on this card"
        )
    assert result is not None
    return result | {"predicted": predicted}


def card(run: Run, about: Json, evaluation: Json | None) -> str:
    """Markdown; without an evaluation, it gives the figures of the validation."""
    config = yaml.safe_load((run.path / CONFIG).read_text(encoding="utf-8"))
    source = config.get("data", {}).get("_target_", "not recorded")
    figures = _validated(run) if evaluation is None else _evaluated(run, evaluation)
    sections = {
        "Intended use": [INTENDED_USE],
        "Limits": _limits(run),
        "Training data": _data(run, source, about["training_data_licence"]),
        "Training": _training(run, about),
        f"Figures: {'validation only' if evaluation is None else 'evaluation'}": figures,
        "Files": _files(about),
    }
    head = [f"# {TASK}: model card", f"**{NO_DEVICE}**"]
    if source == PHANTOM:
        head.append("**Trained on synthetic chests: for trying the software, not on patients.**")
    body = [f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items()]
    return "\n\n".join([*head, *body]) + "\n"


def _limits(run: Run) -> Iterator[str]:
    volumes = [case["volume_ml"] for case in cases_of(run, "training")]
    if positive := [ml for ml in volumes if ml > 0]:
        yield f"- It learnt from effusions of {_range(positive)} mL."
    if 0 not in volumes:
        but = " (but synthetic chests)" if run.companions else ""
        yield f"- It saw no scan known to be free of effusion{but}: expect it to invent some."
    yield "- Scanners, protocols and diseases other than those of its data are unknown to it."
    yield "- Nothing is known of children, of drained or operated chests, or of contrast phases."
    yield (
        "- Dense fluid (30 HU and more: blood, pus), loculated fluid and a whole white hemithorax "
        "are rare, or absent, in what most networks learn from: expect misses."
    )
    yield "- At thin rims, and beside collapsed lung, human readers differ as well."


def _data(run: Run, source: str, licence: str) -> Iterator[str]:
    yield from (f"Source: `{source}`. Licence: **{licence}**.", "")
    if licence == NOT_STATED:
        yield "Find out what the data's terms say of networks trained on them before passing it on."
        yield ""
    for part in PARTS:
        cases = cases_of(run, part)
        patients = len({case["patient"] for case in cases})
        volumes = f", {_range([case['volume_ml'] for case in cases])} mL" if cases else ""
        of = counted(patients, "patient")
        yield f"- {part}: n = {counted(len(cases), 'scan')} (of {of}){volumes}"
    yield from ("", "| scan (SHA-256) | part | mL |", "|---|---|---|")
    rows = [(part, case) for part in PARTS for case in cases_of(run, part)]
    rows += [("training along", case) for case in run.companions]
    rows += [("training, of what it started from", case) for case in run.learnt_before]
    for part, case in rows:
        yield f"| `{case['image_sha256'][:HASH_SHOWN]}` | {part} | {case['volume_ml']:.1f} |"


def _training(run: Run, about: Json) -> Iterator[str]:
    record = run.record
    size = " x ".join(str(n) for n in about["inference"]["patch_size"])
    yield f"- {about['parameters'] / 1e6:.2f} million parameters, patches of {size} voxels"
    if "epochs" in record:
        yield (
            f"- {counted(record['epochs'], 'epoch')} ({record['patches']} patches) in "
            f"{record['seconds']['train'] / 60:.1f} minutes, {record['precision']}, seed "
            f"{record['seed']}; epoch {record['best_epoch']} (counted from 0) was kept"
        )
    if start := record.get("start"):
        ours = ", synthetic chests," if start["run"] in SHIPPED else ""
        yield (
            f"- started from the weights with SHA-256 `{start['weights_sha256']}`, learnt from "
            f"{counted(len(start['training']), 'scan')}{ours} that the table above names too"
        )
    if run.companions:
        yield (
            f"- {counted(len(run.companions), 'synthetic chest')} trained along, together drawn as "
            "often as one case"
        )
    if not record.get("finished"):
        yield "- **stopped, or exported, before the training was finished**"
    made = record.get("versions", {})
    yield f"- made with {', '.join(f'{name} {it}' for name, it in made.items()) or 'not recorded'}"
    yield f"- weights: SHA-256 `{about['weights_sha256']}`"


def _chosen(run: Run) -> str:
    return CHOSEN_BY if validation_chose(run.record) else NOT_CHOSEN_BY


def _validated(run: Run) -> Iterator[str]:
    scores = [case for case in run.record.get("cases", []) if case["reference_ml"] > 0]
    if not scores:
        yield "None: no scan with effusion validated this network."
        return
    patient = {case["name"]: case["patient"] for case in cases_of(run, "validation")}
    dice = mean(
        [case["dice"] for case in scores], [patient[case["name"]] for case in scores], (0, 1)
    )
    n = f"n = {counted(dice.n, 'patient')}"
    yield f"Mean Dice {shown(asdict(dice))} [95 % interval], {n}. {_chosen(run)}"
    yield from _warning(few(dice.n))
    yield from ("", "| Dice | reference mL | predicted mL |", "|---|---|---|")
    for case in scores:
        volumes = f"{case['reference_ml']:.1f} | {case['predicted_ml']:.1f}"
        yield f"| {case['dice']:.3f} | {volumes} |"


def _evaluated(run: Run, evaluation: Json) -> Iterator[str]:
    model, predicted = evaluation["readers"]["model"], evaluation["predicted"]
    yield (
        f"{model['n_cases']} scans: {model['n_with_effusion']} with effusion, "
        f"{model['n_without']} without; {len(model['missed'])} missed."
    )
    if (together := len(predicted["runs"])) > 1:
        held_out = predicted.get("held_out")
        how = "each scan by those that did not train on it" if held_out else "averaged"
        yield f"Predicted by {together} networks, {how}; this is one of them."
    if predicted.get("mirror"):
        yield f"Predicted mirrored along {predicted['mirror']} as well; unmirrored, figures differ."
    if {case["name"] for case in cases_of(run, "validation")} & set(evaluation["files"]):
        yield f"Some validated the network. {_chosen(run)}"
    yield from _warning(model["warning"])
    yield from ("", "| with effusion | mean [95 % interval] | n patients |", "|---|---|---|")
    for key, (name, decimals) in MEASURES.items():
        one = model["mean"][key]
        yield f"| {name} | {shown(one, decimals)} | {one['n']} |"
    yield from ("", f"Tolerance of the surface Dice: {evaluation['tolerance_mm']:g} mm.")
    detection = model["detection"]
    for key in ("sensitivity", "specificity"):
        one = detection[key]
        limit = f"{detection['threshold_ml']:g} mL"
        yield f"Detection at {limit}: {key} {shown(one)}, n = {one['n']}."


def _files(about: Json) -> Iterator[str]:
    apart = about["largest_probability_differences"]
    yield f"- `model.onnx`: SHA-256 `{about['onnx_sha256']}`"
    yield (
        f"- its probabilities differ from torch's by up to {apart['onnxruntime']:.1e} in ONNX "
        f"Runtime; those of torch in bf16 by {apart['torch_bf16']:.1e}"
    )
    yield "- `model.json`: how a study is prepared, predicted and put back"
    yield "- code: Apache-2.0; who passes the weights on answers for the terms of the data"


def _warning(text: str | None) -> list[str]:
    return [f"**{text}.**"] if text else []


def _range(volumes_ml: Sequence[float]) -> str:
    low, high = f"{min(volumes_ml):.0f}", f"{max(volumes_ml):.0f}"
    return low if low == high else f"{low} to {high}"

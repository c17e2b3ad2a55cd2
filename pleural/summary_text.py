"""An evaluation in words and tables: Markdown that reads well in a terminal, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
NOTHING = "–"  # where there is nothing to say


def as_markdown(result: Mapping[str, Any], rows: Mapping[str, Sequence[Row]]) -> str:
    """``result`` as ``summary.json`` holds it, ``rows`` by reader."""
    model = result["readers"]["model"]
    lines = ["# Evaluation", ""]
    lines += _remarks(result)
    lines += ["", "## Case by case", "", *_table(_case_lines(rows))]
    lines += ["", "## Cases with effusion", "", *_table(_reader_lines(result["readers"]))]
    lines += ["", "Mean [95 % interval over patients]; an effusion that is not marked has Dice 0."]
    lines += ["", "## Volume, detection and size", "", *_volume_lines(model)]
    lines += ["", *_table(_band_lines(model["bands"]))]
    if "difference" in result:
        lines += ["", "## Compared with the other predictions", ""]
        lines += _table(_difference_lines(result["difference"]))
    return "\n".join(lines) + "\n"


def shown(estimate: Mapping[str, Any], decimals: int = 3) -> str:
    """An estimate with its interval.

    >>> shown({"value": 0.5, "low": 0.25, "high": 0.75, "n": 7}, 2)
    '0.50 [0.25, 0.75]'
    >>> shown({"value": 0.5, "low": None, "high": None, "n": 1}), shown({"value": None})
    ('0.500', '–')
    """
    if estimate["value"] is None:
        return NOTHING
    text = f"{estimate['value']:.{decimals}f}"
    if estimate["low"] is None:
        return text
    return f"{text} [{estimate['low']:.{decimals}f}, {estimate['high']:.{decimals}f}]"


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    model, source = result["readers"]["model"], result["sources"]["model"]
    yield (
        f"{model['n_cases']} cases of {source['folder']}: {model['n_with_effusion']} with "
        f"effusion, {model['n_without']} without."
    )
    if model["missed"]:
        yield f"Missed: {', '.join(model['missed'])}."
    if source["left_out"]:
        yield f"Left out, as every run trained on them: {', '.join(source['left_out'])}."
    if names := source.get("chosen_on"):
        yield (
            "Helped to choose the epoch of the network that predicted them, which flatters it: "
            f"{', '.join(names)}."
        )
    if source["failed"]:
        yield f"Failed in prediction, and judged as empty masks: {', '.join(source['failed'])}."
    if model["warning"]:
        yield f"**{model['warning']}.**"


def _case_lines(rows: Mapping[str, Sequence[Row]]) -> Iterator[list[str]]:
    yield ["case", "reader", "Dice", "NSD", "HD95 mm", "reference mL", "predicted mL", "found"]
    ordered = [row for own in rows.values() for row in own]
    for row in sorted(ordered, key=lambda row: str(row["name"])):
        numbers = [f"{row['dice']:.3f}", f"{row['nsd']:.3f}", f"{row['hd95_mm']:.1f}"]
        if not row["reference_ml"]:
            numbers = [NOTHING] * 3  # no overlap to speak of; the millilitres tell
        volumes = [f"{row['reference_ml']:.1f}", f"{row['predicted_ml']:.1f}"]
        yield [row["name"], row["reader"], *numbers, *volumes, "yes" if row["found"] else "no"]


def _reader_lines(readers: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    yield ["reader", "n", "Dice", "median", "NSD", "HD95 mm", "sensitivity", "precision"]
    for name, one in readers.items():
        means = one["mean"]
        yield [
            name,
            str(means["dice"]["n"]),
            shown(means["dice"]),
            shown(one["median"]["dice"]),
            shown(means["nsd"]),
            shown(means["hd95_mm"], 1),
            shown(means["sensitivity"]),
            shown(means["precision"]),
        ]


def _volume_lines(model: Mapping[str, Any]) -> Iterator[str]:
    error = model["mean"]["absolute_volume_error_ml"]
    if error["value"] is not None:
        middle = model["median"]["absolute_volume_error_ml"]
        yield f"- absolute volume error: mean {shown(error, 1)} mL, median {shown(middle, 1)} mL"
    agreement = model["bland_altman"]
    if agreement["lower_ml"]["value"] is not None:
        yield (
            f"- Bland–Altman: bias {shown(agreement['bias_ml'], 1)} mL, limits of agreement "
            f"{shown(agreement['lower_ml'], 1)} to {shown(agreement['upper_ml'], 1)} mL"
        )
    if model["concordance"]["value"] is not None:
        yield f"- Lin's concordance: {shown(model['concordance'])}"
    detection = model["detection"]
    shares = [
        f"{name} {shown(detection[name])} (n = {detection[name]['n']})"
        for name in ("sensitivity", "specificity")
        if detection[name]["n"]
    ]
    yield f"- detection at {detection['threshold_ml']:g} mL: {', '.join(shares)}"
    if model["n_without"]:
        yield f"- invented on cases without effusion: mean {shown(model['invented_ml'], 1)} mL"


def _band_lines(bands: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    yield ["size, mL", "cases", "Dice", "volume error mL", "absolute mL"]
    for name, one in bands.items():
        errors = [shown(one[f"{kind}volume_error_ml"], 1) for kind in ("", "absolute_")]
        yield [name, str(one["n_cases"]), shown(one["dice"]), *errors]


def _difference_lines(difference: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["of", "cases", "ours minus theirs", "p", "test"]
    for key, one in difference.items():
        if isinstance(one, Mapping):
            p = NOTHING if one["p"] is None else _p(one["p"])
            cases = str(difference["n_cases"])
            yield [key, cases, shown(one["difference"]), p, one["test"]]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def _table(lines: Iterator[list[str]]) -> list[str]:
    """Markdown with its columns in line."""
    head, *body = lines
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    return [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in (head, rule, *body)
    ]

"""The task of export: the files for programs and people, in one go."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from monai.inferers import SlidingWindowInferer

from pleural.errors import InputError, missing_package
from pleural.export.bundle import for_monai, write_bundle
from pleural.export.card import card, evaluation_of
from pleural.export.description import description, properties
from pleural.export.network import write_onnx
from pleural.inference import Windows
from pleural.io.whole import write_json, write_text
from pleural.preprocess import ChestCT
from pleural.trained import Run, Trained, runs_in

NEEDED = ("onnx", "onnxruntime", "onnxscript")


def export(
    run: str | Path, evaluation: str | Path | None, data_licence: str | None, run_dir: str | Path
) -> float:
    """Write the files that :mod:`pleural.export` lists, and check ONNX against torch.

    Args:
        run: one run folder.
        evaluation: a folder of ``task=evaluate`` whose predictions are of this network, alone or
            among others.
        data_licence: of the training data.
        run_dir: gets everything.

    Returns:
        The largest difference between a probability from ONNX Runtime and from torch.

    Raises:
        InputError: no run or several, an evaluation of another network, an extra is missing, or
            the network is another one after export (then no ONNX file is left).
    """
    _require(NEEDED)
    chosen, folder = _only(run), Path(run_dir)
    figures = None if evaluation is None else evaluation_of(chosen, evaluation)
    trained = chosen.load()
    _check_kinds(trained)
    config = for_monai(chosen.config())
    trained.net.eval()
    about = description(chosen, trained, data_licence)
    onnx_file = folder / "model.onnx"
    parity = write_onnx(trained, onnx_file, properties(about))
    about |= {"onnx_sha256": _sha256(onnx_file), "largest_probability_differences": asdict(parity)}
    write_json(folder / "model.json", about)
    text = card(chosen, about, figures)
    write_text(folder / "MODEL_CARD.md", text)
    write_bundle(folder / "bundle", config, trained.net, about, text)
    print(
        f"largest difference of a probability to torch's: {parity.onnxruntime:.1e} in ONNX Runtime "
        f"({parity.torch_bf16:.1e} in torch's own bf16)\neverything is in {folder}"
    )
    return parity.onnxruntime


def _require(packages: Sequence[str]) -> None:
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise missing_package(error) from error


def _only(folder: str | Path) -> Run:
    runs = runs_in(folder)
    if len(runs) > 1:
        raise InputError(
            f"{folder} holds {len(runs)} runs, and an export is of one: name it, such as "
            f"task.run={runs[0].path}"
        )
    return runs[0]


def _check_kinds(trained: Trained) -> None:
    """Only what can be described to others is exported."""
    for part, kinds in (
        (trained.preprocess, (ChestCT,)),
        (trained.inferer, (Windows, SlidingWindowInferer)),
    ):
        if type(part) not in kinds:
            names = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)
            raise InputError(
                f"an export describes {names}; this run has {type(part).__name__} instead"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

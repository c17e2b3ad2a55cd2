"""A MONAI bundle, with the preprocessing as it was trained, so that it works without `pleural`."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pleural.errors import InputError
from pleural.export.description import metadata
from pleural.io.whole import write_json, write_text, write_whole
from pleural.model import AIR
from pleural.parts import shares

ROOM = Path(__file__).parents[1]
PACKAGE = "pleural_bundle"  # not `pleural`, or it would hide one that is installed
SOURCES = (
    "errors",
    "volume",
    "window",
    "body",
    "preprocess",
    "model",
    "inference",
    "parts",
)  # these need each other, but nothing else
IMPORTED = ("parts import mask_on", "volume import Volume")


def write_bundle(
    folder: Path, config: dict[str, Any], net: nn.Module, about: dict[str, Any], text: str
) -> None:
    """After MONAI's bundle specification (https://docs.monai.io/en/stable/mb_specification.html).

    MONAI's own transforms come near our preprocessing, but not near enough (docs/export.md), so
    the few modules that make it are copied, under a name of their own.
    """
    write_json(folder / "configs" / "inference.json", _inference(config))
    write_json(folder / "configs" / "metadata.json", metadata(about))
    write_whole(
        folder / "models" / "model.pt", lambda partial: torch.save(net.state_dict(), partial)
    )
    write_text(folder / "docs" / "README.md", text)
    write_text(folder / "docs" / "data_license.txt", f"{about['training_data_licence']}\n")
    write_text(folder / "LICENSE", _licence())
    write_text(folder / PACKAGE / "__init__.py", '"""Copied from `pleural`, Apache-2.0."""\n')
    for name in SOURCES:
        source = (ROOM / f"{name}.py").read_text(encoding="utf-8")
        write_text(folder / PACKAGE / f"{name}.py", re.sub(r"\bpleural\.", f"{PACKAGE}.", source))


def for_monai(node: Any) -> Any:
    """A run's configuration for MONAI's parser, which runs strings that begin in certain ways.

    Raises:
        InputError: there is such a string; a run folder may come from anywhere.
    """
    if isinstance(node, dict):
        return {key: for_monai(value) for key, value in node.items()}
    if isinstance(node, list):
        return [for_monai(value) for value in node]
    if isinstance(node, str):
        if node.startswith(("$", "@", "%")):
            raise InputError(f"the run's configuration holds {node!r}, which a bundle would run")
        return re.sub(r"^pleural\.", f"{PACKAGE}.", node)
    return node


def _inference(config: dict[str, Any]) -> dict[str, Any]:
    """``configs/inference.json``: it needs MONAI, nibabel and scipy, and no ignite."""
    pad = {"spatial_size": config["patch_size"], "method": "end", "value": AIR}
    place = {"output_dir": "@output_dir", "output_postfix": "effusion", "separate_folder": False}
    save = {"resample": False, "output_dtype": "uint8", **place}
    prepare = [
        {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
        {"_target_": "CopyItemsd", "keys": "image", "names": "study"},
        {"_target_": "Lambdad", "keys": "image", "func": "@prepared"},
        "@pad",
    ]
    finish = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "Invertd", "keys": "pred", "orig_keys": "image", "transform": "@pad"},
        "@masked",
        {"_target_": "SaveImaged", "keys": "pred", **save},
    ]
    return {
        "imports": [f"$from {PACKAGE}.{origin}" for origin in IMPORTED] + ["$import glob"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/studies'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": config["model"],
        "network": "$@network_def.to(@device)",
        "weights": "$torch.load(@bundle_root + '/models/model.pt', weights_only=True)",
        "inferer": config["inference"],
        "chest_ct": config["preprocess"],
        "volume": "$lambda tensor: Volume(tensor[0].numpy(), tensor.affine.numpy())",
        "tensor": (
            "$lambda volume, like: monai.data.MetaTensor(volume.array[None].copy(), "
            "meta={**like.meta, 'affine': torch.tensor(volume.affine)})"
        ),
        "prepared": "$lambda study: @tensor(@chest_ct(@volume(study)), study)",
        "threshold": config["threshold"],
        "sure_inside": shares(config["sure_inside"]),
        "masked": (
            "$lambda case: {**case, 'pred': @tensor(mask_on(@volume(case['study']), "
            "@volume(case['pred']), @threshold, @sure_inside), case['study'])}"
        ),
        "predict": (
            "$torch.no_grad()(lambda case: "
            "{**case, 'pred': @inferer(case['image'][None].to(@device), @network)[0].cpu()})"
        ),
        "pad": {"_target_": "SpatialPadd", "keys": "image", **pad},
        "preprocessing": {"_target_": "Compose", "transforms": prepare},
        "postprocessing": {"_target_": "Compose", "transforms": finish},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in sorted(glob.glob(@dataset_dir + '/*.nii*'))]",
            "transform": "@preprocessing",
        },
        "evaluator": {"_target_": "Compose", "transforms": ["@predict", "@postprocessing"]},
        "run": [
            "$@network.load_state_dict(@weights)",
            "$@network.eval()",
            "$[@evaluator(case) for case in @dataset]",
        ],
    }


def _licence() -> str:
    """Of the code, from the clone or from the installed package."""
    clone = ROOM.parent / "LICENSE"
    if clone.exists():
        return clone.read_text(encoding="utf-8")
    return distribution("pleural").read_text("licenses/LICENSE") or ""

"""What an exported network says of itself to programs: ``model.json``, and a bundle's metadata.

It names no case and no patient, since it is made to be passed on; scans are identified by the
SHA-256 of their content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pleural.body import BODY_ABOVE_HU, BODY_GRID_MM, TABLE_THICKNESS_MM
from pleural.inference import SIGMA_OF_WINDOW, SLAB_MULTIPLE, Windows
from pleural.model import AIR
from pleural.trained import Run, Trained
from pleural.versions import versions

FORMAT = 2  # of model.json: raise it when a key changes its meaning
INPUT, OUTPUT = "image", "logits"
TASK = "Pleural effusion on chest CT"
NO_DEVICE = (
    "Not a medical device. For research. Nothing here is validated or cleared for diagnosis or "
    "treatment."
)
NOT_STATED = "not stated"
SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"

Json = dict[str, Any]


def description(run: Run, trained: Trained, data_licence: str | None) -> Json:
    """``model.json`` without what is only known of the written ONNX file."""
    multiples = free_multiples(trained)
    sizes = window_size(trained) if multiples is None else [f"{m} * n" for m in multiples]
    tensor = {"axes": "B C X Y Z", "shape": ["batch", 1, *sizes], "dtype": "float32"}
    return {
        "format": FORMAT,
        "task": TASK,
        "warning": NO_DEVICE,
        "input": {"name": INPUT, **tensor, "range": [-1, 1]},
        "output": {
            "name": OUTPUT,
            **tensor,
            "classes": ["pleural effusion"],
            "meaning": "probability = 1 / (1 + exp(-logit)), of each voxel by itself",
        },
        "preprocessing": _preprocessing(trained),
        "inference": _inference(trained, multiples),
        "postprocessing": {
            "resampling": "probability, as in preprocessing, onto the study's grid; 0 outside",
            "threshold": trained.threshold,
            "threshold_on": "the study's own grid",
            "sure_inside": trained.sure_inside,
        },
        "parameters": sum(weights.numel() for weights in trained.net.parameters()),
        "weights_sha256": run.weights_sha256,
        "training_image_sha256": [
            case["image_sha256"]
            for case in (*cases_of(run, "training"), *run.companions, *run.learnt_before)
        ],
        "training_data_licence": data_licence or NOT_STATED,
        "versions": versions() | {name: version(name) for name in ("onnx", "onnxruntime")},
    }


def window_size(trained: Trained) -> list[int]:
    """Of windows like patches, in X, Y, Z."""
    inferer: Any = trained.inferer
    return list(inferer.patch_size if isinstance(inferer, Windows) else inferer.roi_size)


def free_multiples(trained: Trained) -> list[int] | None:
    """Where windows follow the volume: what their sizes are multiples of. ``None`` elsewhere."""
    inferer, net = trained.inferer, trained.net
    follows = isinstance(inferer, Windows) and inferer.follow(net)
    return list(net.multiples) if follows else None  # type: ignore[arg-type]


def _inference(trained: Trained, multiples: list[int] | None) -> Json:
    inferer: Any = trained.inferer
    ours = isinstance(inferer, Windows)
    about = {
        "patch_size": window_size(trained),
        "overlap": inferer.overlap,
        "blending": "gaussian" if ours else str(inferer.mode.value),
        "sigma_of_window": SIGMA_OF_WINDOW if ours else inferer.sigma_scale,
        "blended": OUTPUT,
    }
    if multiples is not None:
        about |= {"multiples": multiples, "slab": inferer.slab, "overlap": inferer.slab_overlap}
        about |= {"slab_multiple": SLAB_MULTIPLE}
    return about


def _preprocessing(trained: Trained) -> Json:
    chest_ct: Any = trained.preprocess
    return {
        "orientation": "RAS",
        "crop_to_body": chest_ct.crop_to_body,
        "body": {
            "rule": (
                "on a coarse grid, the largest connected part above a HU after an opening with an "
                "axial disc; its bounding box and a margin are kept"
            ),
            "above_hu": BODY_ABOVE_HU,
            "grid_mm": BODY_GRID_MM,
            "disc_diameter_mm": TABLE_THICKNESS_MM,
            "margin_mm": chest_ct.margin_mm,
        },
        "window_hu": list(chest_ct.window_hu),
        "window_becomes": [-1, 1],
        "spacing_mm": list(chest_ct.spacing_mm),
        "resampling": (
            "first corner kept; mean over a voxel's own width, linear where it grows finer; null "
            "keeps the study's spacing"
        ),
        "padding": AIR,
        "padded_to": list(trained.patch_size),
        "padded_at": "the far end of each axis",
    }


def properties(about: Json) -> dict[str, str]:
    """The same for the metadata of the ONNX file, so that it explains itself when alone."""
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()
    }


def metadata(about: Json) -> Json:
    """``configs/metadata.json`` of a MONAI bundle, after its schema of July 2024."""
    shape = {"num_channels": 1, "spatial_shape": about["inference"]["patch_size"]}
    patch = {"type": "image", **shape, "dtype": "float32", "is_patch_data": True}
    image = {"format": "hounsfield", "modality": "CT", "value_range": [-1, 1]}
    pred = {"format": "segmentation", "value_range": []}
    found = about["versions"]
    return {
        "schema": SCHEMA,
        "version": found["pleural"],
        "changelog": {},
        "monai_version": found["monai"],
        "pytorch_version": found["torch"],
        "numpy_version": found["numpy"],
        "required_packages_version": {"nibabel": found["nibabel"], "scipy": version("scipy")},
        "name": TASK,
        "task": f"{TASK}: segmentation",
        "description": "Logits of pleural effusion from patches of a chest CT. See docs/README.md.",
        "authors": NOT_STATED,
        "copyright": NOT_STATED,
        "data_source": f"Licence of the training data: {about['training_data_licence']}",
        "data_type": "nibabel",
        "image_classes": "one channel, a window of HU scaled to [-1, 1]",
        "pred_classes": "one channel, logits of pleural effusion",
        "intended_use": NO_DEVICE,
        "network_data_format": {
            "inputs": {"image": {**patch, **image, "channel_def": {"0": "CT"}}},
            "outputs": {"pred": {**patch, **pred, "channel_def": {"0": "pleural effusion"}}},
        },
    }


def cases_of(run: Run, part: str) -> Sequence[Mapping[str, Any]]:
    """What the run's record says of each case of ``training`` or ``validation``."""
    cases: Sequence[Mapping[str, Any]] = run.record.get("split", {}).get(part, [])
    return cases

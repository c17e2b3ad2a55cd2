"""The network alone as ONNX, checked against torch before the file gets its name."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pleural.anatomy import chest
from pleural.errors import InputError, first_line, root_cause
from pleural.export.description import INPUT, OUTPUT, free_multiples, window_size
from pleural.hardware import autocast
from pleural.io.whole import write_whole
from pleural.model import AIR
from pleural.prepared import padded
from pleural.trained import Trained
from pleural.volume import Volume

OPSET = 18  # torch's own choice; ONNX Runtime reads it from 1.14 on
# ONNX Runtime sums an InstanceNormalization plainly in fp32, which moves a probability by up to
# 6e-4 (untrained DynUNet); bf16, in which networks are trained and applied, moves it by 1e-2.
MOST_APART, MOST_OF_BF16 = 1e-4, 0.1  # whichever allows more
PHANTOM_ML = 500
MOST_MULTIPLES = 4096  # of a free size; torch asks for some bound


@dataclass(frozen=True)
class Parity:
    """The largest differences of a probability to torch's in fp32, on patches of a phantom."""

    onnxruntime: float
    torch_bf16: float


def write_onnx(trained: Trained, path: Path, about: dict[str, str]) -> Parity:
    """One file, whole and checked, or none.

    Batches of any size; patches of one, or of all multiples of some where windows follow the
    volume.
    """
    import onnx

    multiples = free_multiples(trained)
    patches = _patches(trained, chest(0, PHANTOM_ML).scan, multiples)
    model = _as_onnx(trained.net, patches[:2], multiples)
    onnx.helper.set_model_props(model, about)
    found: list[Parity] = []

    def write(partial: Path) -> None:
        partial.write_bytes(model.SerializeToString())
        onnx.checker.check_model(partial, full_check=True)
        found.append(_parity(trained.net, partial, patches))

    write_whole(path, write)
    return found[0]


def _patches(trained: Trained, scan: Volume, multiples: Sequence[int] | None) -> Tensor:
    """Three windows of the prepared scan, from corner to corner: ``(3, 1, X, Y, Z)``.

    Of free sizes torch sees an example, and takes one multiple alone for all that there may be.
    """
    size = window_size(trained)
    if multiples is not None:
        size = [max(n, 2 * multiple) for n, multiple in zip(size, multiples, strict=True)]
    image = padded(trained.preprocess(scan).array, size, AIR)
    room = np.subtract(image.shape, size)
    starts = [np.round(share * room).astype(int) for share in (0, 0.5, 1)]
    windows = [tuple(slice(s, s + n) for s, n in zip(start, size, strict=True)) for start in starts]
    return torch.from_numpy(np.stack([image[window] for window in windows])[:, None])


def _as_onnx(net: nn.Module, patches: Tensor, multiples: Sequence[int] | None) -> Any:
    shape: dict[int, Any] = {0: torch.export.Dim("batch")}
    for axis, multiple in enumerate(multiples or (), start=2):
        shape[axis] = multiple * torch.export.Dim(f"n{axis - 1}", max=MOST_MULTIPLES)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # or it misses torchvision, aloud
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's of itself
            program = torch.onnx.export(
                net,
                (patches,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=(shape,),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(
            f"this network cannot become ONNX ({first_line(root_cause(error))})"
        ) from error
    assert program is not None
    model = program.model_proto
    # Each node carries the lines of code that it came from, with the paths of this machine.
    for part in (model.graph, *model.graph.node):
        del part.metadata_props[:]
    return model


def _parity(net: nn.Module, path: Path, patches: Tensor) -> Parity:
    """
    Raises:
        InputError: ONNX Runtime and torch differ by more than their rounding.
    """
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        exact = net(patches).sigmoid()
        with autocast(patches.device, "bf16-mixed"):
            coarse = net(patches).float().sigmoid()
    apart = 0.0
    for part in (slice(1), slice(None)):  # alone, and more at once than it was exported with
        (logits,) = session.run([OUTPUT], {INPUT: patches[part].numpy()})
        apart = max(apart, _apart(torch.from_numpy(logits).sigmoid(), exact[part]))
    bf16 = _apart(coarse, exact)
    if apart > max(MOST_APART, MOST_OF_BF16 * bf16):
        raise InputError(
            f"the network gives other probabilities in ONNX Runtime than in torch, by up to "
            f"{apart:.2g} (in torch's own bf16: {bf16:.2g}): no file is written"
        )
    return Parity(apart, bf16)


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference; 1 where one is no number."""
    return float((one - other).abs().nan_to_num(1.0).max())

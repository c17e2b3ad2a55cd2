"""What this machine does fastest."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of malloc.h


def fastest_device() -> str:
    """``cuda`` or ``cpu``: Apple's GPUs lack some of what 3D networks and our sums need."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fastest_precision(accelerator: str = "auto") -> str:
    """Lightning's name of the precision to use: bf16 where the processor computes in it.

    Elsewhere bf16 is emulated and slower than fp32. Older GPUs get fp16.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "16-mixed"
    if accelerator in ("auto", "cpu") and _cpu_has_bf16():
        return "bf16-mixed"
    return "32-true"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Lightning's ``precision``, for code outside a Lightning trainer."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision.endswith("16-mixed"))


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, where that is glibc.

    Otherwise large blocks go back to the system, and each step of a training has their pages
    cleared anew: a tenth of its time with the default network, a quarter with large batches.
    """
    mallopt = getattr(ctypes.pythonapi, "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # not so with musl
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2**28)


def wrong_gradients(net: nn.Module, patch_size: Sequence[int]) -> list[str]:
    """Names of the 3D convolutions whose bf16 weight gradients a CPU gets wrong on such patches.

    In torch 2.13 they are garbage (infinite, NaN, or off by 100 %) where the first size of a
    feature map is 2; forward passes are right, so nothing else would warn. A copy of ``net`` is
    run once to see its sizes; what it raises on patches that it cannot take is passed on.
    """
    found: list[str] = []

    def note(name: str, module: nn.Conv3d, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[2] == 2 and max(module.kernel_size) > 1:
            found.append(name)

    net = deepcopy(net).cpu()
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(partial(note, name))
    with torch.no_grad():
        net(torch.zeros(1, 1, *patch_size))
    return found

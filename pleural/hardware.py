"""What this machine does fastest."""

from __future__ import annotations

import torch


def precision(accelerator: str = "auto") -> str:
    """Lightning's name of the precision to use: bf16 where the processor computes in it.

    Elsewhere bf16 is emulated and slower than fp32. Older GPUs get fp16.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "16-mixed"
    if accelerator in ("auto", "cpu") and _cpu_has_bf16():
        return "bf16-mixed"
    return "32-true"


def autocast(device: torch.device) -> torch.autocast:
    """The same choice for code outside a Lightning trainer."""
    chosen = precision("gpu" if device.type == "cuda" else device.type)
    dtype = torch.float16 if chosen.startswith("16") else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=chosen != "32-true")


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()

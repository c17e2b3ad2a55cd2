"""Seconds a patch, forward and backward, of every network in `conf/model/`, batch in memory.

    python benchmarks/networks.py

Prints a table in Markdown: parameters, and the median seconds a patch of the default's size in this
machine's fastest precision, two patches a batch. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
from hydra.utils import instantiate
from workers import CONF, composed

from pleural.hardware import autocast, fastest_precision
from pleural.tuned import tuned

N_PATCHES, N_STEPS = 2, 3


def seconds(net: torch.nn.Module, batch: torch.Tensor) -> tuple[float, float]:
    """Of the forward pass and of both passes, a patch, medians."""
    forward, both = [], []
    for _ in range(N_STEPS):
        start = time.perf_counter()
        with autocast(batch.device, fastest_precision()):
            logits = net(batch)
        forward.append(time.perf_counter() - start)
        finest = logits if isinstance(logits, torch.Tensor) else logits[0]
        (finest.float().sigmoid() ** 2).mean().backward()
        both.append(time.perf_counter() - start)
    return statistics.median(forward) / len(batch), statistics.median(both) / len(batch)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    print("| model | million parameters | forward, s | forward and backward, s |")
    print("|---|---|---|---|")
    for option in sorted(file.stem for file in (CONF / "model").glob("*.yaml")):
        config = composed(["data=plethora", "data.root=none"], [f"model={option}"])
        net = tuned(instantiate(config.model, _convert_="all"))
        batch = torch.randn(N_PATCHES, 1, *config.patch_size)
        forward, both = seconds(net, batch.contiguous(memory_format=torch.channels_last_3d))
        millions = sum(p.numel() for p in net.parameters()) / 1e6
        print(f"| {option} | {millions:.2f} | {forward:.3f} | {both:.3f} |", flush=True)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    print(
        f"\n{machine}, torch {torch.__version__}, {fastest_precision()}, medians of {N_STEPS} steps"
    )


if __name__ == "__main__":
    main()

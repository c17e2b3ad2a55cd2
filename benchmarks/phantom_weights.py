"""From a training on phantoms to the weights that come with the package.

    python run.py experiment=phantoms name=phantoms
    python benchmarks/phantom_weights.py outputs/train/phantoms

Its run folder becomes `pleural/weights/phantoms/`, with what a training that starts there needs:
configuration, record, and the weights in half precision, which halves the file.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from pleural.run_folder import CONFIG, RunFolder
from pleural.start import SHIPPED


def halved(weights: torch.Tensor) -> torch.Tensor:
    return weights.half() if weights.is_floating_point() else weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the training")
    run = RunFolder(parser.parse_args().run)
    shipped = RunFolder(SHIPPED["phantoms"])
    (shipped.path / CONFIG).parent.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG, run.record.name):
        shutil.copyfile(run.path / file, shipped.path / file)
    best = run.load_best()
    weights = {name: halved(value) for name, value in best.pop("weights").items()}
    shipped.save_best(weights, **best)
    print(f"{shipped.best}: {shipped.best.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

"""Memory of a training by the number of its cases, with the cache in memory and on disk.

    python benchmarks/memory.py
    python benchmarks/memory.py --cases 20 200 --phantoms DIR

Trains the default network on so many phantoms (written first, a second or more each) for two
epochs, in which every case is drawn at least once, and prints a table in Markdown: peak resident
memory of the whole process as the system counts it, and the part of it that is the process' own.
The rest are pages of mapped files, which the system takes back when another program needs memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from prediction import OF_SCANS, ROOT, peaks_gb_of

from pleural.versions import versions

EPOCHS = 2


def trained(n_cases: int, cache: str, phantoms: Path, folder: Path) -> tuple[float, float]:
    """Peak resident memory and the process' own, in GB; prepared cases are shared by all runs."""
    command = [
        *(sys.executable, str(ROOT / "run.py"), f"data.n_cases={n_cases}"),
        *(f"data.root={phantoms}", f"dataset.cache={cache}", f"epochs={EPOCHS}"),
        f"dataset.steps_per_epoch={-(-n_cases // 2)}",  # of two cases each
        *(f"dataset.cache_dir={folder / 'cache'}", f"hydra.run.dir={folder / cache}_{n_cases}"),
        "trainer.enable_progress_bar=false",
        OF_SCANS,
    ]
    return peaks_gb_of(command, folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--phantoms", type=Path, default=Path("data/phantom"))
    options = parser.parse_args()
    print("| cases | cache | peak GB | of it the process' own |\n|---|---|---|---|")
    with TemporaryDirectory() as name:
        for n_cases in options.cases:
            for cache in ("memory", "disk"):
                peak, own = trained(n_cases, cache, options.phantoms.absolute(), Path(name))
                print(f"| {n_cases} | {cache} | {peak:.2f} | {own:.2f} |", flush=True)
    about = versions()
    print(
        f"\nDefault experiment on phantoms, {EPOCHS} epochs with every case drawn (n = 1 run each);"
        f" {about['machine']}, torch {about['torch']}, MONAI {about['monai']}, Python"
        f" {about['python']}; code {about['code']}."
    )


if __name__ == "__main__":
    main()

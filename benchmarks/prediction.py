"""Memory and time of predicting one study, by its size: peak resident memory of the whole process.

    python benchmarks/prediction.py
    python benchmarks/prediction.py --runs outputs/train/RUN --slices 110 600

Writes one synthetic chest of 512 x 512 voxels for each number of slices, as a DICOM series and as
NIfTI, predicts it with `python run.py task=predict`, and prints a table in Markdown. Without
--runs, the default for scans is used with weights of four steps on phantoms: what it finds makes no
difference to time and memory. Times depend on the machine; leave it alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pleural.anatomy import chest
from pleural.io import dicom, nifti
from pleural.versions import versions
from pleural.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
IN_PLANE = 512
OF_SCANS = "~budget"  # that of phantoms, which would have coarser voxels and smaller patches
STAGES = ("read", "segment", "measure", "write")


def study(n_slices: int) -> Volume:
    """A chest of 36 x 36 x 30 cm whatever the number of slices."""
    coarse_mm = (2.8, 2.8, 5.0)
    coarse = chest(0, 600, spacing_mm=coarse_mm, shape=(128, 128, 60), codes="LPS").scan
    slices = np.arange(n_slices) * 60 // n_slices
    array = coarse.array.repeat(4, axis=0).repeat(4, axis=1)[:, :, slices]
    scale = np.diag([0.25, 0.25, 60 / n_slices, 1])
    return Volume(np.asfortranarray(array), coarse.affine @ scale)


def peaks_gb_of(command: list[str], folder: Path) -> tuple[float, float]:
    """Peak resident memory of a process that must end well, and the peak of its own part.

    The rest are pages of mapped files, which the system may take back.
    """
    process = subprocess.Popen(command, cwd=folder, stdout=sys.stderr)
    peaks_kb = {"VmHWM": 0, "RssAnon": 0}  # the kernel's own high-water mark; what is seen of it

    def watch() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                lines = status.read_text().splitlines()
            except OSError:
                return
            for line in lines:
                name, _, value = line.partition(":")
                if name in peaks_kb:
                    peaks_kb[name] = max(peaks_kb[name], int(value.split()[0]))
            stop.wait(0.05)

    stop = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    peak, own = (kb / 2**20 for kb in peaks_kb.values())
    return peak, own


def trained(folder: Path) -> Path:
    options = ["trainer=smoke", "data.n_cases=2", "n_folds=2", "dataset.steps_per_epoch=2"]
    options += [OF_SCANS, f"hydra.run.dir={folder}/run"]
    command = [sys.executable, str(ROOT / "run.py"), *options]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "run"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=Path, help="a run folder; default: one made for this")
    parser.add_argument("--slices", type=int, nargs="+", default=[110, 300, 600])
    parser.add_argument("--formats", nargs="+", default=["dicom", "nifti"])
    options = parser.parse_args()
    lines = [["slices", "format", "peak GB", *(f"{stage} s" for stage in STAGES), "all s"]]
    with TemporaryDirectory() as name:
        folder = Path(name)
        runs = options.runs.absolute() if options.runs else trained(folder)
        for n_slices in options.slices:
            for kind in options.formats:
                data = folder / f"{kind}_{n_slices}"
                if kind == "dicom":
                    dicom.write_series(study(n_slices), data / "study", patient_id="benchmark")
                else:
                    nifti.write(study(n_slices), data / "study.nii.gz")
                out = folder / "out" / data.name
                peak_gb, _ = peaks_gb_of(
                    [
                        *(sys.executable, str(ROOT / "run.py"), "task=predict"),
                        *(f"task.runs={runs}", "data=folder", f"data.root={data}"),
                        f"hydra.run.dir={out}",
                    ],
                    folder,
                )
                record = json.loads((out / "studies" / "study.json").read_text(encoding="utf-8"))
                seconds = [record["seconds"][stage] for stage in STAGES]
                shown = [f"{s:.1f}" for s in (*seconds, sum(seconds))]
                lines.append([str(n_slices), kind, f"{peak_gb:.2f}", *shown])
    lines.insert(1, ["---"] * len(lines[0]))
    print("\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    about = versions()
    print(
        f"512 x 512 voxels a slice, one study each (n = 1); {about['machine']}, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads, torch {about['torch']}, MONAI "
        f"{about['monai']}, Python {about['python']}; code {about['code']}."
    )


if __name__ == "__main__":
    main()

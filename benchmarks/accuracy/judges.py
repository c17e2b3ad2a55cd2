"""What judges the networks that `pooled.py` trains, on processors beside the GPU."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from false_alarms import beyond_ml
from folds import Line, append, config
from pool import PHANTOM, WITH
from poured import share_found

from pleural.dice import dice
from pleural.parts import mask_on, shares
from pleural.prepared import Sample
from pleural.versions import versions
from pleural.volume import Volume


class Judge:
    """Judges what a network gives by its own scan, by what was poured into it, and by phantoms.

    Apart from the trainings, as what a network is unsure of takes a processor longer to find than
    a GPU the probabilities.
    """

    def __init__(self, samples: dict[str, Sample]) -> None:
        self.samples = samples

    def judges(self, name: str) -> list[str]:
        """Names of the samples that judge the network that held ``name`` out."""
        others = (f"{name}{WITH}", PHANTOM)
        return [name, *(other for other in self.samples if other.startswith(others))]

    def __call__(self, asked: Sequence[str], probabilities: dict[str, np.ndarray]) -> Line:
        """Of 0 to 255, by the names of :meth:`judges`, in that order."""
        rule = shares(config(asked).sure_inside)
        found = {
            name: mask_on(grid, grid.with_array(whole / np.float32(255)), 0.5, rule)
            for name, whole in probabilities.items()
            for grid in [self._reference(name)]
        }
        name = next(iter(probabilities))
        own, reference = found[name], self._reference(name)
        return {
            "case": name,
            "dice": dice(own.array, reference.array),
            "predicted_ml": own.nonzero_ml,
            "reference_ml": reference.nonzero_ml,
            "beyond_ml": beyond_ml(own, reference),
            "poured": {
                other.removeprefix(f"{name}{WITH}"): self._share_found(mask, other, reference)
                for other, mask in found.items()
                if WITH in other
            },
            "phantoms_ml": [
                mask.nonzero_ml for other, mask in found.items() if other.startswith(PHANTOM)
            ],
        }

    def _reference(self, name: str) -> Volume:
        sample = self.samples[name]
        affine = np.diag([*sample["spacing_mm"], 1.0])
        return Volume((sample["label"][0] >= 0.5).astype(np.uint8), affine)

    def _share_found(self, mask: Volume, other: str, reference: Volume) -> float:
        fluid = (self._reference(other).array > 0) & (reference.array == 0)
        return share_found(*(torch.from_numpy(array) for array in (mask.array > 0, fluid)))


class Judges:
    """Processes that judge beside the trainings; to be begun before there is anything of a GPU."""

    def __init__(self, judge: Judge, folder: Path, n_processes: int) -> None:
        forks = get_context("fork")
        about = {"versions": versions()}
        self.waiting, writing = forks.Queue(), forks.Lock()
        self.processes = [
            forks.Process(target=self._judge, args=(judge, folder, about, writing), daemon=True)
            for _ in range(n_processes)
        ]
        for process in self.processes:
            process.start()

    def hand(self, asked: Sequence[str], about: Line, probabilities: dict[str, np.ndarray]) -> None:
        """What :class:`Judge` takes, and what else is to be kept of it."""
        self._check()
        self.waiting.put((asked, about, probabilities))

    def finish(self) -> None:
        """Wait until all is judged.

        Raises:
            SystemExit: a process failed; at once, as what is judged by nobody is time lost.
        """
        for _ in self.processes:
            self.waiting.put(None)
        for process in self.processes:
            process.join()
        self._check()

    def _check(self) -> None:
        if any(process.exitcode for process in self.processes):
            self.waiting.cancel_join_thread()
            sys.exit("a process that judges failed (above): not all results are there")

    def _judge(self, judge: Judge, folder: Path, about: Line, writing: Any) -> None:
        torch.set_num_threads(1)
        for asked, learnt, probabilities in iter(self.waiting.get, None):
            row = {"asked": asked, **judge(asked, probabilities), **learnt, **about}
            packed = BytesIO()
            np.savez_compressed(packed, probabilities[row["case"]])
            with writing, zipfile.ZipFile(folder / "probabilities.zip", "a") as archive:
                append(folder / "results.jsonl", row)
                archive.writestr(f"{'_'.join(asked)}_{row['case']}.npz", packed.getvalue())
            print(f"{' '.join(asked)}, {row['case']}: {row['dice']:.3f}", flush=True)

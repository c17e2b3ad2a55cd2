"""What a GPU shows of many settings within minutes: leave-one-out trainings from pools of patches.

    python benchmarks/accuracy/pooled.py pack --root DIR --packed packed.npz
    python benchmarks/accuracy/pooled.py train --packed packed.npz --out FOLDER --jobs \\
        "seed=0 epochs=30" "seed=0 epochs=30 loss.pos_weight=1"
    python benchmarks/accuracy/pooled.py table --results FOLDER/results.jsonl

`pack` puts the prepared scans into one small file, so that the machine with the GPU needs no other.
`train` has all cores cut and augment patches, as any training does, and keeps them: every training
draws from these pools, as to augment anew for each would take most of the time. Of each job, the
scans that are held out train together, a network each that never sees its own, and are judged on
the network's grid (`python run.py` judges on the scans' own), less what it is unsure of. A line of
`results.jsonl` a scan, and `probabilities.zip`. `benchmarks/accuracy/gpu.jsonl` is what was
measured for docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from false_alarms import LIMIT_ML, beyond_ml
from folds import Line, append, config, lines_in, summary
from hydra.utils import instantiate
from omegaconf import DictConfig
from pool import (
    COMPANIONS,
    FIXED,
    OF_PATCHES,
    PHANTOM,
    WITH,
    Pool,
    filling,
    pack,
    synthetic,
    unpacked,
)
from poured import share_found
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pleural.data.plethora import POOR_MASKS
from pleural.dice import dice
from pleural.loop import forgetting_average, halved
from pleural.loss import KnownOnly
from pleural.parts import mask_on, shares
from pleural.prepared import Sample
from pleural.tuned import tuned
from pleural.versions import versions
from pleural.volume import Volume

LAST = 0.1  # share of a training over which its loss is averaged


class Learner:
    """The training of one network, a step at a time; on a GPU on a stream of its own.

    Streams overlap the small kernels of several networks, and graphs leave no time between them.
    """

    def __init__(self, made: DictConfig, pool: Pool, held_out: str, device: torch.device) -> None:
        self.made, self.pool, self.held_out, self.device = made, pool, held_out, device
        torch.manual_seed(made.seed)
        self.net, self.average = (tuned(instantiate(made.model)).to(device) for _ in range(2))
        self.averages, self.weights = (
            [*net.state_dict().values()] for net in (self.average, self.net)
        )
        self.loss = KnownOnly(instantiate(made.loss)).to(device)
        self.schedule = instantiate(made.scheduler)
        self.optimizer = instantiate(made.optimizer)(
            self.net.parameters(),
            lr=torch.zeros((), device=device),
            capturable=device.type == "cuda",
        )
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.n_steps = int(made.epochs * made.dataset.steps_per_epoch)
        self.done = 0
        self.image = torch.zeros(made.dataset.cases_per_batch, 1, *made.patch_size, device=device)
        self.label = torch.zeros_like(self.image)
        self.summed = torch.zeros((), device=device)
        self.random = np.random.default_rng(made.seed)
        self.cases = self._cases()
        self.stream = torch.cuda.Stream() if device.type == "cuda" else None
        self.learn = {coarse: self._captured(coarse) for coarse in (True, False)}

    def step(self, available: int) -> None:
        progress = self.done / self.n_steps
        with torch.cuda.stream(self.stream):
            for image, label in zip(self.image, self.label, strict=True):
                drawn = next(self.cases), int(self.random.integers(available))
                for place, patch in zip((image[0], label[0]), self.pool.patch(*drawn), strict=True):
                    place.copy_(patch)
            self.rate.fill_(self.made.optimizer.lr * self.schedule(progress))
            if self.done == self._last:
                self.summed.zero_()
            self.learn[progress < self.made.coarse_until]()
            with torch.no_grad():
                decay = self.made.ema_decay or 0.0
                forgetting_average(decay, self.averages, self.weights, self.done)
        self.done += 1

    @property
    def last_loss(self) -> float:
        return float(self.summed) / (self.n_steps - self._last)

    def probability(self, sample: Sample) -> np.ndarray:
        """0 to 255, ``(X, Y, Z)``, of the averaged network, on the grid of ``sample``."""
        image = torch.from_numpy(sample["image"])[None].float().to(self.device)
        inferer = instantiate(self.made.inference)
        with torch.inference_mode(), self._autocast():
            logits: Tensor = inferer(image, self.average.eval())
        whole: np.ndarray = (logits[0, 0].float().sigmoid() * 255).round().byte().cpu().numpy()
        return whole

    @property
    def _last(self) -> int:
        return int((1 - LAST) * self.n_steps)

    def _cases(self) -> Iterator[int]:
        unseen = {self.held_out} if self.made.companions else {self.held_out, COMPANIONS}
        own = [number for number, name in enumerate(self.pool.names) if name not in unseen]
        while True:
            yield from self.random.permutation(own).tolist()

    def _autocast(self) -> torch.autocast:
        on_gpu = self.device.type == "cuda"  # on most CPUs, bf16 takes far longer
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu)

    def _learn(self, coarse: bool) -> None:
        image, label = self.image, self.label
        if coarse:
            image, label = halved(image), halved(label)
        with self._autocast():
            logits = self.net(image.contiguous(memory_format=torch.channels_last_3d))
        # As DeepSupervisionLoss, which no graph can capture: it makes a tensor of a number.
        loss = torch.zeros((), device=self.device)
        for depth, level in enumerate([logits] if isinstance(logits, Tensor) else logits):
            wanted = interpolate(label, level.shape[2:], mode="nearest-exact")
            loss = loss + 0.5**depth * self.loss(level.float(), wanted)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.made.trainer.gradient_clip_val)
        self.optimizer.step()
        self.summed += loss.detach()

    def _captured(self, coarse: bool) -> Callable[[], None]:
        def eager() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            self._learn(coarse)

        if self.stream is None:
            return eager
        before = [value.clone() for value in self.weights]
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(3):  # at a rate of 0
                eager()
        torch.cuda.synchronize()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self._learn(coarse)
        with torch.no_grad():  # as if nothing had been learnt
            for value, as_it_was in zip(self.weights, before, strict=True):
                value.copy_(as_it_was)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
            self.summed.zero_()
        torch.cuda.synchronize()
        replay: Callable[[], None] = graph.replay
        return replay


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


def train_together(
    asked: Sequence[str], pool: Pool, held_out: Sequence[str], device: torch.device
) -> list[Learner]:
    """A network for each scan that is held out."""
    available = pool.upload(device)
    learners = [Learner(config(asked), pool, name, device) for name in held_out]
    for number in range(learners[0].n_steps):
        if number % 500 == 499:
            available = pool.upload(device)
        for learner in learners:
            learner.step(available)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return learners


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


def train(options: argparse.Namespace) -> None:
    began = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [job.split() for job in options.jobs]
    if fixed := [asked for job in jobs for asked in job if asked.startswith(FIXED)]:
        sys.exit(f"{', '.join(fixed)}: one for all jobs; change the default, and pack anew")
    cases, samples = unpacked(options.packed)
    companions, others = synthetic(options.workers)
    samples |= others
    held_out = options.held_out or [c.name for c in cases if c.name not in POOR_MASKS]
    keys = [tuple(setting for setting in job if setting.startswith(OF_PATCHES)) for job in jobs]
    pools = {
        key: Pool(key, cases, companions, samples, options.pool) for key in dict.fromkeys(keys)
    }
    judge = Judge(samples)
    judges = Judges(judge, options.out, options.judges)
    fillers = filling([*pools.values()], options.workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    torch.backends.cudnn.benchmark = True
    for number, (asked, key) in enumerate(zip(jobs, keys, strict=True)):
        for learner in train_together(asked, pools[key], held_out, device):
            looked_at = judge.judges(learner.held_out)
            probabilities = {which: learner.probability(samples[which]) for which in looked_at}
            judges.hand(asked, {"loss": learner.last_loss, "device": name}, probabilities)
        print(f"{' '.join(asked)}: trained after {time.monotonic() - began:.0f} s", flush=True)
        if key not in keys[number + 1 :]:
            pools[key].free()
    for filler in fillers:
        filler.terminate()
    judges.finish()


def table(results: Path) -> None:
    """Prints what every setting reached: Dice, over the seeds, and what else was judged.

    Poor masks have no Dice worth telling, but what is found beside them counts.

    Raises:
        SystemExit: of a setting, scans or seeds are missing.
    """
    by_settings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in lines_in(results):
        by_settings[" ".join(s for s in row["asked"] if not s.startswith("seed="))].append(row)
    everyone = [row for rows in by_settings.values() for row in rows]
    names = sorted({row["case"] for row in everyone} - {*POOR_MASKS})
    others = [*everyone[0].get("poured", {})]
    head = ["settings", "mean", "median volume error", *names]
    if others:
        head += ["beyond, mL", "phantoms, mL", *(f"found of {other}" for other in others)]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for settings, rows in by_settings.items():
        cells = [f"`{settings}`", *_overlaps(settings, rows, names)]
        print(f"| {' | '.join(cells + _alarms(rows, others))} |")


def _overlaps(settings: str, rows: list[dict[str, Any]], names: Sequence[str]) -> list[str]:
    of_case = [[row for row in rows if row["case"] == name] for name in names]
    if len({len(of_seeds) for of_seeds in of_case}) > 1:
        raise SystemExit(f"{settings}: not every scan has every seed")
    dices, predicted_ml, reference_ml = (
        np.array([[row[value] for row in of_seeds] for of_seeds in of_case]).T  # seeds, scans
        for value in ("dice", "predicted_ml", "reference_ml")
    )
    over = summary(dices, predicted_ml, reference_ml)
    own = [f"{dice:.3f}" for dice in dices.mean(axis=0)]
    return [over.told, f"{over.volume_error:.0%}", *own]


def _alarms(rows: list[dict[str, Any]], others: Sequence[str]) -> list[str]:
    """Greatest false alarms of any network, and the mean share of what was poured that is found."""
    if not others:
        return []
    beyond, (_, where) = max(
        (row["beyond_ml"], (number, row["case"])) for number, row in enumerate(rows)
    )
    phantoms = [max(row["phantoms_ml"]) for row in rows]
    alarmed = sum(ml >= LIMIT_ML for ml in phantoms)
    found = [f"{np.mean([row['poured'][other] for row in rows]):.2f}" for other in others]
    told = f"{max(phantoms):.0f} ({alarmed} of {len(rows)} networks)"
    return [f"{beyond:.0f} ({where})", told, *found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    packing = tasks.add_parser("pack", help="prepared scans into one file")
    packing.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    packing.add_argument("--packed", type=Path, required=True, help="file to write")
    training = tasks.add_parser("train", help="train and judge")
    training.add_argument("--packed", type=Path, required=True, help="file that `pack` wrote")
    training.add_argument("--out", type=Path, required=True, help="folder to write to")
    training.add_argument("--jobs", nargs="+", required=True, help="settings of one, in quotes")
    training.add_argument("--held-out", nargs="+", help="scans; all without poor masks if none")
    training.add_argument("--pool", type=int, default=400, help="patches of every scan in a pool")
    training.add_argument("--workers", type=int, default=os.cpu_count(), help="that augment")
    training.add_argument("--judges", type=int, default=4, help="processes that judge")
    telling = tasks.add_parser("table", help="what was measured, in Markdown")
    telling.add_argument("--results", type=Path, required=True, help="results.jsonl")
    options = parser.parse_args()
    if options.task == "pack":
        pack(options.root, options.packed)
    elif options.task == "train":
        train(options)
    else:
        table(options.results)


if __name__ == "__main__":
    main()

"""What a GPU shows of many settings within minutes: leave-one-out trainings from pools of patches.

    python benchmarks/accuracy/pooled.py pack --root DIR --packed packed.npz
    python benchmarks/accuracy/pooled.py train --packed packed.npz --out FOLDER --jobs \\
        "seed=0 epochs=30" "seed=0 epochs=30 loss.pos_weight=1"
    python benchmarks/accuracy/pooled.py table --results FOLDER/results.jsonl

`pack` puts the prepared scans into one small file, so that the machine with the GPU needs no other.
`train` has all cores cut and augment patches, as any training does, and keeps them: every training
draws from these pools, as to augment anew for each would take most of the time. Of each job, the
scans that are held out train together, a network each that never sees its own, and are judged on
the network's grid (`python run.py` judges on the scans' own). A line of `results.jsonl` a scan, and
`probabilities.zip`. `benchmarks/accuracy/gpu.jsonl` is what was measured for docs/accuracy.md.
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
from folds import append, config, lines_in, summary
from hydra.utils import instantiate
from omegaconf import DictConfig
from pool import OF_PACK, OF_PATCHES, PHANTOM, WITH, Pool, fill_all, pack, unpacked
from poured import share_found
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pleural.data.plethora import POOR_MASKS
from pleural.dice import dice
from pleural.loop import forgetting_average, halved
from pleural.loss import KnownOnly
from pleural.model import tuned
from pleural.prepared import Sample
from pleural.run_folder import versions
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
                forgetting_average(self.made.ema_decay, self.averages, self.weights, self.done)
        self.done += 1

    @property
    def last_loss(self) -> float:
        return float(self.summed) / (self.n_steps - self._last)

    def probability(self, sample: Sample) -> Tensor:
        """float32 ``(X, Y, Z)`` of the averaged network, on the grid of ``sample``."""
        image = torch.from_numpy(sample["image"])[None].float().to(self.device)
        inferer = instantiate(self.made.inference)
        with torch.inference_mode(), self._autocast():
            logits: Tensor = inferer(image, self.average.eval())
        return logits[0, 0].float().sigmoid().cpu()

    @property
    def _last(self) -> int:
        return int((1 - LAST) * self.n_steps)

    def _cases(self) -> Iterator[int]:
        own = [number for number, name in enumerate(self.pool.names) if name != self.held_out]
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


def judged(learner: Learner, samples: dict[str, Sample]) -> tuple[dict[str, Any], Tensor]:
    """By its own scan, by what was poured into that, and by phantoms; and its own's probability."""
    name = learner.held_out
    probability, sample = learner.probability(samples[name]), samples[name]
    found, reference = probability >= 0.5, _effusion(sample)
    prediction, real = _volume(found, sample), _volume(reference, sample)
    row = {
        "dice": dice(found, reference),
        "predicted_ml": prediction.nonzero_ml,
        "reference_ml": real.nonzero_ml,
        "beyond_ml": beyond_ml(prediction, real),
        "poured": {
            other.removeprefix(f"{name}{WITH}"): share_found(
                learner.probability(after) >= 0.5, _effusion(after) & ~reference
            )
            for other, after in samples.items()
            if other.startswith(f"{name}{WITH}")
        },
        "phantoms_ml": [
            _volume(learner.probability(phantom) >= 0.5, phantom).nonzero_ml
            for other, phantom in samples.items()
            if other.startswith(PHANTOM)
        ],
    }
    return row, probability


def _effusion(sample: Sample) -> Tensor:
    return torch.from_numpy(sample["label"][0] >= 0.5)


def _volume(found: Tensor, sample: Sample) -> Volume:
    return Volume(found.numpy(), np.diag([*sample["spacing_mm"], 1.0]))


def train_together(
    asked: Sequence[str],
    pool: Pool,
    held_out: Sequence[str],
    samples: dict[str, Sample],
    device: torch.device,
) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """A row and the probability of each scan that is held out."""
    available = pool.upload(device)
    learners = [Learner(config(asked), pool, name, device) for name in held_out]
    for number in range(learners[0].n_steps):
        if number % 500 == 499:
            available = pool.upload(device)
        for learner in learners:
            learner.step(available)
    if device.type == "cuda":
        torch.cuda.synchronize()
    for learner in learners:
        scores, probability = judged(learner, samples)
        yield (
            {"asked": [*asked], "case": learner.held_out, **scores, "loss": learner.last_loss},
            probability,
        )


def keep(folder: Path, row: dict[str, Any], probability: Tensor) -> None:
    append(folder / "results.jsonl", row)
    packed = BytesIO()
    np.savez_compressed(packed, (probability * 255).round().byte().numpy())
    with zipfile.ZipFile(folder / "probabilities.zip", "a") as archive:
        archive.writestr(f"{'_'.join(row['asked'])}_{row['case']}.npz", packed.getvalue())


def train(options: argparse.Namespace) -> None:
    began = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    cases, samples = unpacked(options.packed)
    held_out = options.held_out or [c.name for c in cases if c.name not in POOR_MASKS]
    jobs = [job.split() for job in options.jobs]
    if of_pack := [asked for job in jobs for asked in job if asked.startswith(OF_PACK)]:
        sys.exit(f"{', '.join(of_pack)}: what is packed is prepared; pack anew with other defaults")
    keys = [tuple(setting for setting in job if setting.startswith(OF_PATCHES)) for job in jobs]
    pools = {key: Pool(key, cases, samples, options.pool) for key in dict.fromkeys(keys)}
    fillers = [  # forked, before there is anything of a GPU to share
        get_context("fork").Process(
            target=fill_all, args=([*pools.values()], number, options.workers), daemon=True
        )
        for number in range(options.workers)
    ]
    for filler in fillers:
        filler.start()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    about = {"versions": versions(), "device": name}
    for number, (asked, key) in enumerate(zip(jobs, keys, strict=True)):
        rows = []
        for row, probability in train_together(asked, pools[key], held_out, samples, device):
            keep(options.out, {**row, **about}, probability)
            rows.append(row)
        own = " ".join(f"{row['dice']:.3f}" for row in rows)
        print(f"{' '.join(asked)}: {own}, after {time.monotonic() - began:.0f} s", flush=True)
        if key not in keys[number + 1 :]:
            pools[key].free()
    for filler in fillers:
        filler.terminate()


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

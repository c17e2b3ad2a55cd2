"""What `throughput.py` measures, each in a process of its own: `python benchmarks/workers.py NAME`.

A worker prints one line of JSON at its end. Times are wall-clock seconds; memory is the peak
resident set of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CONF = Path(__file__).resolve().parents[1] / "conf"
EPOCHS = 3  # of which the first warms up
N_MATRIX = 3072
WARM_UP, MEASURED = 3, 9  # steps of a loop with nothing but the network


class Timed:
    """A callable that keeps the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = self.function(*arguments)
        self.seconds += time.perf_counter() - start
        return result


def composed(data: Sequence[str], overrides: Sequence[str]) -> Any:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=[*data, *overrides, "run_dir=."])


def task(data: Sequence[str], *overrides: str) -> Any:
    """The task of the configuration, its parts as ``keywords``, as ``run.py`` builds it."""
    from pleural.config import build_task

    return build_task(composed(data, overrides))


def cases(data: Sequence[str]) -> list[dict[str, Path]]:
    from hydra.utils import instantiate

    found = instantiate(composed(data, ()).data, _convert_="all").cases()
    return [{"image": case.image, "label": case.mask} for case in found if case.mask]


def typical(found: Sequence[dict[str, Path]]) -> dict[str, Path]:
    """The case with the middle number of slices."""
    return sorted(found, key=lambda case: len([*case["image"].iterdir()]))[len(found) // 2]


def peak(data: Sequence[str]) -> dict[str, Any]:
    """The fastest matrix product of this machine, in GFLOP/s."""
    import torch

    result = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(N_MATRIX, N_MATRIX).to(dtype) for _ in range(2))
        a @ b
        seconds = []
        for _ in range(MEASURED):
            start = time.perf_counter()
            a @ b
            seconds.append(time.perf_counter() - start)
        result[name] = 2 * N_MATRIX**3 / min(seconds) / 1e9
    return result


def reference(data: Sequence[str]) -> dict[str, Any]:
    """An epoch of the reference recipe over all cases, and a validation of a typical one."""
    import reference_recipe as recipe

    training, stage, found = recipe.Recipe(), recipe.Stages(), cases(data)
    start = time.perf_counter()
    patches = training.epoch(found, stage)
    seconds = time.perf_counter() - start
    stages = dict(stage.seconds)
    training.validate(typical(found), stage)
    return {
        "patches_per_s": patches / seconds,
        "ms_per_patch": per_patch(stages, patches),
        "data_s": stages["read"] + stages["preprocess"],
        "validation_s": stage.seconds["validation"],
        "gflop_per_patch": gflop_per_patch(training.net, recipe.PATCH),
    }


def ours(data: Sequence[str], *overrides: str) -> dict[str, Any]:
    """A training of ours on all cases, through every part that ``run.py`` would use."""
    from pytorch_lightning import Callback
    from pytorch_lightning.profilers import SimpleProfiler

    fixed = ["fold=all", f"epochs={EPOCHS}", "coarse_until=0"]  # of the full size throughout
    training = task(data, *overrides, *fixed, "task=train")
    parts, profiler, marks = training.keywords, SimpleProfiler(), {}
    net, make_trainer = parts["model"], parts["trainer"]
    net.forward, augmentation = Timed(net.forward), Timed(parts["augmentation"])
    parts["augmentation"] = augmentation

    def so_far() -> Counter[str]:
        spent = {name: sum(taken) for name, taken in profiler.recorded_durations.items()}
        spent |= {"augment": augmentation.seconds, "forward": net.forward.seconds}
        return Counter(spent)

    class Meter(Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 1:
                marks.update(start=time.perf_counter(), steps=trainer.global_step, spent=so_far())

        def on_train_end(self, trainer: Any, module: Any) -> None:
            marks.update(
                end=time.perf_counter(), last=trainer.global_step, precision=trainer.precision
            )

    def metered(callbacks: list[Any], **options: Any) -> Any:
        return make_trainer(callbacks=[*callbacks, Meter()], profiler=profiler, **options)

    parts["trainer"] = metered
    with TemporaryDirectory() as folder:
        parts["run_dir"] = folder
        training()
    patches = (marks["last"] - marks["steps"]) * parts["dataset"].patches_per_batch
    seconds = marks["end"] - marks["start"]
    spent = so_far()
    spent.subtract(marks["spent"])
    step, backward = (
        spent[f"[Strategy]SingleDeviceStrategy.{w}"] for w in ("training_step", "backward")
    )
    fetched = spent["[_TrainingEpochLoop].train_dataloader_next"]
    stages = {
        "crop": fetched - spent["augment"],
        "augment": spent["augment"],
        "forward": spent["forward"],
        "loss and Dice": step - spent["forward"],
        "backward": backward,
        "optimiser": spent["[LightningModule]Training.optimizer_step"] - step - backward,
    }
    stages["framework"] = seconds - sum(stages.values())
    return {
        "patches_per_s": patches / seconds,
        "ms_per_patch": per_patch(stages, patches),
        "precision": str(marks["precision"]),
    }


def limit(data: Sequence[str], *overrides: str) -> dict[str, Any]:
    """The same network, loss, optimiser and precision on one batch that lies in memory."""
    import torch
    from monai.losses import DeepSupervisionLoss

    from pleural.hardware import autocast, fastest_precision, keep_freed_memory
    from pleural.tuned import tuned

    keep_freed_memory()
    parts = task(data, *overrides, "task=train").keywords
    net, dataset = tuned(parts["model"]), parts["dataset"]
    loss = DeepSupervisionLoss(parts["loss"])  # as a training has it, for nets with coarse heads
    optimizer, device = parts["optimizer"](net.parameters()), torch.device("cpu")
    shape = (dataset.patches_per_batch, 1, *dataset.patch_size)
    patches = torch.rand(shape).contiguous(memory_format=torch.channels_last_3d) * 2 - 1
    labels = (torch.rand(shape) < 0.02).float()
    seconds = []
    for _ in range(WARM_UP + MEASURED):
        start = time.perf_counter()
        with autocast(device, fastest_precision()):
            logits = net(patches)
            value = loss(logits, labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return {
        "patches_per_s": len(patches) / statistics.median(seconds[WARM_UP:]),
        "gflop_per_patch": gflop_per_patch(net, dataset.patch_size),
    }


def reference_start(data: Sequence[str]) -> dict[str, Any]:
    """From the start of the process to the end of the first step."""
    import reference_recipe as recipe

    found = cases(data)
    recipe.Recipe().epoch(found[: recipe.CASES_PER_BATCH], recipe.Stages())
    return {"start_s": since_started()}


def our_start(data: Sequence[str], *overrides: str) -> dict[str, Any]:
    """As :func:`reference_start`; ``data_s``: until every case is ready to be cut."""
    from pytorch_lightning import Callback

    training = task(data, *overrides, "fold=all", "trainer=smoke", "task=train")
    parts, marks = training.keywords, {}
    make_trainer, make_loaders = parts["trainer"], parts["dataset"].loaders

    class FirstStep(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            marks.setdefault("start_s", since_started())

    def watched(callbacks: list[Any], **options: Any) -> Any:
        return make_trainer(callbacks=[*callbacks, FirstStep()], **options)

    parts["trainer"] = watched
    parts["dataset"].loaders = loaders = Timed(make_loaders)
    with TemporaryDirectory() as folder:
        parts["run_dir"] = folder
        training()
    return {**marks, "data_s": loaders.seconds}


def validation(data: Sequence[str], *overrides: str) -> dict[str, Any]:
    """A typical prepared case to its Dice, as a training validates."""
    import torch
    from hydra.utils import instantiate

    from pleural.data.case import Case
    from pleural.hardware import autocast, fastest_precision
    from pleural.loop import Training

    config = composed(data, [*overrides, "task=train"])
    parts = {
        name: instantiate(config[name], _convert_="all")
        for name in ("model", "loss", "optimizer", "scheduler", "inference", "dataset")
    }
    preprocess = instantiate(config.preprocess, _convert_="all")
    paths = typical(cases(data))
    case = Case("typical", "typical", paths["image"], paths["label"])
    _, volumes = parts.pop("dataset").loaders([case], [case], preprocess, lambda sample: sample)
    names = ("net", "loss", "optimizer", "schedule", "inferer")
    module = Training(
        **dict(zip(names, parts.values(), strict=True)),
        threshold=0.5,
        coarse_until=0,
        ema_decay=None,
        bad_loss="stop",
    )
    (batch,) = volumes
    seconds = []
    for _ in range(1 + MEASURED):
        start = time.perf_counter()
        with torch.inference_mode(), autocast(torch.device("cpu"), fastest_precision()):
            module.eval().validation_step(batch, 0)
        seconds.append(time.perf_counter() - start)
    return {"validation_s": statistics.median(seconds[1:])}


def prediction(data: Sequence[str], run: str) -> dict[str, Any]:
    """A typical DICOM series to its mask in a file, with a model that is loaded, stage by stage."""
    from dataclasses import replace

    from pleural import io
    from pleural.io import dicom, nifti
    from pleural.segmenter import Segmenter

    image = typical(cases(data))["image"]
    (member,) = Segmenter.load(run).members
    member.net.forward = forward = Timed(member.net.forward)
    preprocess, decode = Timed(member.preprocess), Timed(dicom._stored)
    segmenter, dicom._stored = Segmenter([replace(member, preprocess=preprocess)]), decode
    rows = []
    with TemporaryDirectory() as folder:
        for _ in range(1 + MEASURED):
            for timed in (decode, preprocess, forward):
                timed.seconds = 0.0
            marks = [time.perf_counter()]
            scan = io.read(image)
            marks.append(time.perf_counter())
            mask = segmenter.segment(scan).mask
            marks.append(time.perf_counter())
            nifti.write(mask, Path(folder) / "mask.nii.gz")
            marks.append(time.perf_counter())
            read, segment, write = (b - a for a, b in pairwise(marks))
            spent = {
                "headers": read - decode.seconds,
                "decode": decode.seconds,
                "preprocess": preprocess.seconds,
                "forward": forward.seconds,
                "back to the scan's grid": segment - preprocess.seconds - forward.seconds,
                "write": write,
            }
            rows.append((marks[-1] - marks[0], spent))
    total, spent = sorted(rows[1:], key=lambda row: row[0])[MEASURED // 2]
    return {"predict_s": total, "stages_s": spent, "slices": scan.shape[2]}


def since_started() -> float:
    """Seconds since the operating system started this process."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def gflop_per_patch(net: Any, patch_size: Sequence[int]) -> float:
    """Of a forward and a backward pass, by torch's count."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        logits = net(torch.zeros(1, 1, *patch_size))
        levels = [logits] if isinstance(logits, torch.Tensor) else logits
        sum(level.sum() for level in levels).backward()
    return counter.get_total_flops() / 1e9


def per_patch(stages: dict[str, float], patches: int) -> dict[str, float]:
    return {stage: 1000 * seconds / patches for stage, seconds in stages.items()}


WORKERS = {
    worker.__name__: worker
    for worker in (
        *(peak, reference, ours, limit, reference_start, our_start, validation, prediction),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worker", choices=WORKERS)
    parser.add_argument("--data", nargs="+", required=True, help="overrides that choose the data")
    parser.add_argument("overrides", nargs="*", help="of the experiment")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    result = WORKERS[options.worker](options.data, *options.overrides)
    result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(result))


if __name__ == "__main__":
    main()

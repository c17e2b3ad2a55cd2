"""Where the time goes, ours beside the original task's recipe, on the same scans in one run.

    python benchmarks/throughput.py data=plethora data.root=DIR
    python benchmarks/throughput.py --rounds 5 --out docs/images/throughput

Every job runs in a process of its own (`workers.py`), the recipe (`reference_recipe.py`) and ours
in turn, --rounds times over; medians are told, as tables in Markdown, a plot (PNG) and JSON.
Without data, phantoms are written as DICOM. Some twelve minutes on two cores; leave the machine
alone meanwhile, as torch's threads slow down tenfold beside others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from pleural.versions import versions

HERE = Path(__file__).resolve().parent
RUN = HERE.parent / "run.py"
PHANTOMS = ["data=phantom", "data.image_format=dicom", "data.n_cases=6"]
SAME = ["experiment=baseline", "dataset.steps_per_epoch=8"]  # network, patch, crops, augmentation
JOBS: dict[str, list[str]] = {
    "reference": ["reference"],
    "same": ["ours", *SAME],
    "same limit": ["limit", *SAME],
    "default": ["ours"],
    "default limit": ["limit"],
    "reference start": ["reference_start"],
    "start": ["our_start"],
    "same validation": ["validation", *SAME, "inference.overlap=0.5", "inference.mode=gaussian"],
    "default validation": ["validation"],
    "prediction": ["prediction", "RUN"],
}
STAGES = {
    "read": "#3b4994",
    "preprocess": "#5698b9",
    "crop": "#ace4e4",
    "augment": "#dfb0d6",
    "forward": "#fdc086",
    "loss and Dice": "#ffff99",
    "backward": "#f0803c",
    "optimiser": "#a6611a",
    "framework": "#888888",
}


class Claim(NamedTuple):
    """A row of the table of what must hold."""

    work: str
    value: Callable[[dict[str, Any]], float]
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    @property
    def wanted(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_most is None else f"≤ {self.at_most:g}"


CLAIMS = (
    Claim(
        "training, same network and patch: patches a second, ours over the recipe's",
        lambda m: m["same"]["patches_per_s"] / m["reference"]["patches_per_s"],
        "times",
        at_least=8,
    ),
    Claim(
        "the same, of what the network alone does with its batch in memory",
        lambda m: m["same"]["patches_per_s"] / m["same limit"]["patches_per_s"],
        "of the limit",
        at_least=0.85,
    ),
    Claim(
        "the default experiment, of what its network alone does",
        lambda m: m["default"]["patches_per_s"] / m["default limit"]["patches_per_s"],
        "of the limit",
        at_least=0.85,
    ),
    Claim(
        "validation of a scan, same network: the recipe's time over ours",
        lambda m: m["reference"]["validation_s"] / m["same validation"]["validation_s"],
        "times",
        at_least=10,
    ),
    Claim(
        "second training: the recipe's time to read and prepare the cases over ours",
        lambda m: m["reference"]["data_s"] / m["start"]["data_s"],
        "times",
        at_least=20,
    ),
    Claim(
        "second training: process start to the end of its first step",
        lambda m: m["start"]["start_s"],
        "s",
        at_most=12,
    ),
    Claim(
        "prediction of a study, DICOM to mask file, model loaded",
        lambda m: m["prediction"]["predict_s"],
        "s",
        at_most=8,
    ),
    Claim(
        "the same, over its own forward passes",
        lambda m: m["prediction"]["predict_s"] / m["prediction"]["stages_s"]["forward"],
        "times",
        at_most=1.5,
    ),
    Claim(
        "`task=predict` of a study, process start included", lambda m: m["task_s"], "s", None, 20
    ),
    Claim("`python run.py --help`", lambda m: m["help_s"], "s", None, 1.5),
    Claim("`import pleural.volume`", lambda m: m["import_s"], "s", None, 0.5),
)


def seconds(command: Sequence[str | Path], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def worker(arguments: Sequence[str], data: Sequence[str], folder: Path) -> dict[str, Any]:
    name, *overrides = arguments
    command = [sys.executable, HERE / "workers.py", name, *overrides, "--data", *data]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measured(data: Sequence[str], rounds: int) -> dict[str, Any]:
    """Medians of every job, and of some commands."""
    with TemporaryDirectory() as folder:
        return _measured(data, rounds, Path(folder))


def _measured(data: Sequence[str], rounds: int, folder: Path) -> dict[str, Any]:
    smoke = [sys.executable, RUN, "trainer=smoke", "name=run", *data]
    subprocess.run(smoke, cwd=folder, check=True, stdout=sys.stderr)  # fills the cache
    run = str(folder / "outputs/train/run")
    found: dict[str, list[Any]] = defaultdict(list)
    found["peak"].append(worker(["peak"], data, folder))
    for number in range(rounds):
        for name, arguments in JOBS.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            given = [run if argument == "RUN" else argument for argument in arguments]
            found[name].append(worker(given, data, folder))
        found["task_s"].append(task_s(run, data, folder, number))
        found["help_s"].append(seconds([sys.executable, RUN, "--help"], folder))
        found["import_s"].append(seconds([sys.executable, "-c", "import pleural.volume"], folder))
    return {name: median(values) for name, values in found.items()}


def task_s(run: str, data: Sequence[str], folder: Path, number: int) -> float:
    """Of ``task=predict`` for one study: the first round finds which is a typical one."""
    from workers import cases, typical

    root = folder / "one"
    if not root.exists():
        root.mkdir()
        (root / "study").symlink_to(typical(cases(data))["image"].absolute())
    command = [sys.executable, RUN, "task=predict", f"task.runs={run}", f"name=predict{number}"]
    return seconds([*command, "data=folder", f"data.root={root}"], folder)


def median(values: Sequence[Any]) -> Any:
    """Of numbers, or key by key of what holds them."""
    if isinstance(values[0], dict):
        return {key: median([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], int | float):
        return statistics.median(values)
    return values[0]


def claims_table(medians: dict[str, Any]) -> str:
    lines = ["| work | measured | wanted | |", "|---|---|---|---|"]
    for claim in CLAIMS:
        value = claim.value(medians)
        holds = "holds" if claim.holds(value) else "**does not hold**"
        lines.append(f"| {claim.work} | {value:.3g} {claim.unit} | {claim.wanted} | {holds} |")
    return "\n".join(lines)


def stages_table(medians: dict[str, Any]) -> str:
    names = {"reference": "the recipe", "same": "ours, same network", "default": "ours, default"}
    lines = [f"| ms a patch | {' | '.join(names.values())} |", "|---" * (len(names) + 1) + "|"]
    for stage in STAGES:
        shown = [medians[name]["ms_per_patch"].get(stage) for name in names]
        cells = " | ".join("–" if ms is None else f"{ms:.1f}" for ms in shown)
        lines.append(f"| {stage} | {cells} |")
    total = [1000 / medians[name]["patches_per_s"] for name in names]
    lines.append(f"| **all** | {' | '.join(f'**{ms:.1f}**' for ms in total)} |")
    memory = " | ".join(f"{medians[name]['peak_gb']:.1f}" for name in names)
    lines.append(f"| peak memory, GB | {memory} |")
    shares = " | ".join(f"{peak_share(medians, name):.0%}" for name in names)
    lines.append(f"| of the matrix-product peak | {shares} |")
    return "\n".join(lines)


def prediction_table(medians: dict[str, Any]) -> str:
    spent = medians["prediction"]["stages_s"]
    cells = " | ".join(f"{seconds:.2f}" for seconds in spent.values())
    rule = "|---" * (len(spent) + 1) + "|"
    slices = medians["prediction"]["slices"]
    return f"| {slices} slices | {' | '.join(spent)} |\n{rule}\n| seconds | {cells} |"


def peak_share(medians: dict[str, Any], name: str) -> float:
    """Of the fastest matrix product in the job's precision, while everything else goes on too."""
    work = medians["reference" if name == "reference" else f"{name} limit"]["gflop_per_patch"]
    precision = "bf16" if "bf16" in medians[name].get("precision", "") else "fp32"
    return float(work * medians[name]["patches_per_s"] / medians["peak"][precision])


def plot(medians: dict[str, Any]) -> Figure:
    """A bar each for the recipe and ours: milliseconds a patch, stage after stage."""
    bars = {
        "ours, default experiment": "default",
        "ours, the recipe's network": "same",
        "the original task's recipe": "reference",
    }
    figure = Figure(figsize=(9, 3.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    left = [0.0] * len(bars)
    for stage, colour in STAGES.items():
        widths = [medians[name]["ms_per_patch"].get(stage, 0.0) for name in bars.values()]
        axes.barh([*bars], widths, left=left, label=stage, color=colour, height=0.6)
        left = [sum(pair) for pair in zip(left, widths, strict=True)]
    for row, end in enumerate(left):
        axes.text(end, row, f" {end:.0f} ms", va="center")
    axes.set(xlabel="milliseconds a training patch (two cores)", xlim=(0, 1.12 * max(left)))
    figure.legend(ncols=5, frameon=False, fontsize=8, loc="outside upper center")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of what :func:`measured` needs."""
    parser.add_argument(
        "data", nargs="*", type=absolute, default=PHANTOMS, help="overrides that choose the data"
    )
    parser.add_argument("--rounds", type=int, default=3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("outputs/throughput"), help="no suffix")
    options = parser.parse_args()
    medians = measured(options.data, options.rounds)
    about = versions()
    told = (
        f"Medians of {options.rounds} rounds; {about['machine']}, "
        f"{medians['peak']['fp32']:.0f} GFLOP/s in fp32 and {medians['peak']['bf16']:.0f} in bf16; "
        f"torch {about['torch']}, MONAI {about['monai']}, Python {about['python']}; "
        f"code {about['code']}."
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"about": told, "medians": medians}, indent=2)
    options.out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    plot(medians).savefig(options.out.with_suffix(".png"))
    tables = (claims_table(medians), stages_table(medians), prediction_table(medians), told)
    print("", *tables, sep="\n\n")


def absolute(override: str) -> str:
    """The jobs run elsewhere: a path of the data stays what it is here."""
    key, _, value = override.partition("=")
    return f"{key}={Path(value).absolute()}" if key in ("data.root", "data.path") else override


if __name__ == "__main__":
    main()

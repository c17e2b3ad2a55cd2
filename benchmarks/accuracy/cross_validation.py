"""The out-of-fold figure: every scan predicted by the fold that did not train on it, with interval.

    python benchmarks/accuracy/cross_validation.py --root DIR --minutes 10 --n-folds 3

Runs the README's three commands on PleThora (`data=plethora`): train the folds, predict held out,
evaluate. Prints the evaluation's tables with machine, versions and n. Started again with the same
--name, it goes on where it was stopped. Further settings of the training are passed on, as in
`... --minutes 10 experiment=quick`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "run.py"), *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    parser.add_argument("--name", default="cv")
    parser.add_argument("--minutes", type=int, default=45, help="of training, for each fold")
    parser.add_argument("--n-folds", type=int, default=5)
    options, settings = parser.parse_known_args()
    data = ["data=plethora", f"data.root={options.root}", f"name={options.name}"]
    folds = ",".join(map(str, range(options.n_folds)))
    training = [f"n_folds={options.n_folds}", f"fold={folds}"]
    training.append(f"trainer.max_time=00:00:{options.minutes:02d}:00")
    run("-m", *data, *training, *settings)
    runs, predictions = (f"outputs/{task}/{options.name}" for task in ("train", "predict"))
    run("task=predict", *data, f"task.runs={runs}", "task.held_out=true")
    run("task=evaluate", *data, f"task.predictions={predictions}")
    records = [json.loads(path.read_text()) for path in sorted(Path(runs).rglob("run.json"))]
    minutes = [record["seconds"]["train"] / 60 for record in records]
    about = records[0]["versions"]
    print(
        f"\n{len(records)} folds, {min(minutes):.0f} to {max(minutes):.0f} minutes of training "
        f"each; seed {records[0]['seed']}; "
        f"{about['machine']}, torch {about['torch']}, MONAI {about['monai']}, Python "
        f"{about['python']}; code {about['code'][:10]}."
    )


if __name__ == "__main__":
    main()

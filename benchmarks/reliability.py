"""Breaks trainings on purpose, many times, and says what was lost.

    python benchmarks/reliability.py --kills 20 --pairs 5 --studies 1000

Kills a training with SIGKILL at random moments, every other time while it writes a random file
(half of which is then on disk), resumes it each time, and compares its end to the last bit with
that of an unbroken one. Starts pairs of trainings in the same second, which fill one cache
together. Predicts many small studies in one process and watches its memory. Prints a table in
Markdown. Some ten minutes.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from broken import ROOT, TINY, outcome, same

from pleural.versions import versions

RUN, BROKEN = str(ROOT / "run.py"), str(ROOT / "benchmarks" / "broken.py")
SMALL = (*TINY, "trainer.precision=32-true", "trainer.enable_progress_bar=false")
EPOCHS = 40
KILL_AFTER_S = (4.0, 20.0)  # from before its first line to after its last, on the machines at hand
KILL_AT_FILE = (2, 120)


def started(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *command], cwd=folder, **quiet)  # type: ignore[call-overload,no-any-return]


def kills(root: Path, number: int, rng: random.Random) -> str:
    """Row of the table: trainings killed until ``number`` kills are counted."""
    arguments = [f"data.root={root / 'scans'}", *SMALL, f"epochs={EPOCHS}"]
    assert started(root, RUN, *arguments, "hydra.run.dir=whole").wait() == 0
    wanted = outcome(root / "whole")
    n_killed, n_trainings, n_differ = 0, 0, 0
    while n_killed < number:
        folder = root / f"broken-{n_trainings}"
        n_trainings += 1
        code = -1
        while code:
            begun = (folder / "last.ckpt").exists()
            typed = [f"resume={folder}"] if begun else [*arguments, f"hydra.run.dir={folder}"]
            writing = n_killed % 2
            command = [BROKEN, str(rng.randint(*KILL_AT_FILE))] if writing else [RUN]
            process = started(root, *command, *typed)
            if not writing and n_killed < number:
                try:
                    process.wait(rng.uniform(*KILL_AFTER_S))
                except subprocess.TimeoutExpired:
                    process.kill()
            code = process.wait()
            n_killed += code < 0
            print(f"killed {n_killed} times, exit code {code}", file=sys.stderr)
        n_differ += not same(outcome(folder), wanted)
    told = (
        f"{n_trainings - n_differ} of {n_trainings} trainings end like an unbroken one, to the bit"
    )
    return f"| SIGKILL at any moment, then `resume=RUN` | {n_killed} kills | {told} |"


def pairs(root: Path, number: int) -> str:
    differ = 0
    for pair in range(number):
        cache = f"dataset.cache_dir={root / f'cache-{pair}'}"
        arguments = [RUN, f"data.root={root / 'scans'}", *SMALL, "epochs=1", cache]
        both = [started(root / "both", *arguments) for _ in range(2)]
        assert [process.wait() for process in both] == [0, 0]
        a, b = sorted((root / "both" / "outputs" / "train").iterdir())[-2:]
        differ += not same(outcome(a), outcome(b))
    told = f"{number - differ} of {number} pairs in folders of their own, with the same weights"
    return f"| two trainings started in one second, filling one cache | {number} pairs | {told} |"


def soak(root: Path, number: int) -> str:
    """Many links to one phantom, predicted by one process."""
    (scan,) = (root / "scans").glob("*/phantom_000/ct.nii.gz")
    (root / "many").mkdir()
    for i in range(number):
        (root / "many" / f"scan_{i:04d}.nii.gz").symlink_to(scan)
    data = ["data=folder", f"data.root={root / 'many'}", f"task.runs={root / 'whole'}"]
    process = started(root, RUN, "task=predict", "name=soak", *data)
    studies = root / "outputs" / "predict" / "soak" / "studies"
    peaks_mb: dict[int, float] = {}
    while process.poll() is None:
        time.sleep(0.2)
        done = len(list(studies.glob("*.json"))) if studies.is_dir() else 0
        peaks_mb[done] = max(peaks_mb.get(done, 0.0), _resident_mb(process.pid))
    assert process.returncode == 0
    first = max(mb for done, mb in peaks_mb.items() if done <= number // 10)
    last = max(mb for done, mb in peaks_mb.items() if done >= number - number // 10)
    told = (
        f"all predicted; resident memory {first:.0f} MB in the first tenth, {last:.0f} in the last"
    )
    return f"| small studies predicted in one process | {number} studies | {told} |"


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):  # it ended meanwhile
        return 0.0
    return pages * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| fault | tried | what became of it |\n|---|---|---|", flush=True)
    with TemporaryDirectory() as place:
        root = Path(place)
        (root / "both").mkdir()
        print(kills(root, options.kills, random.Random(options.seed)), flush=True)
        print(pairs(root, options.pairs), flush=True)
        print(soak(root, options.studies), flush=True)
    about = versions()
    print(
        f"\n{about['machine']}, torch {about['torch']}, Python {about['python']}; {about['code']}."
    )


if __name__ == "__main__":
    main()

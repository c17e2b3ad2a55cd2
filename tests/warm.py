"""Our commands in processes that have imported already. Not a test itself.

A command that gets as far as torch imports for ten seconds and trains for three. So one process
imports, and its forks are the commands: with a folder, a line of arguments, outputs and an exit
code of their own, as if typed.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

SECONDS = 300
TASKS = ("train", "predict", "evaluate", "report", "audit", "search")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pleural.config", *(f"pleural.{task}" for task in TASKS)])


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python script arguments`` in ``folder``, as :func:`subprocess.run` tells of it."""
    files = [folder / f".{stream}" for stream in ("out", "err")]
    process = CONTEXT.Process(target=_typed, args=(folder, files, script, arguments))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    said = [file.read_text(encoding="utf-8") for file in files]
    for file in files:
        file.unlink()
    return subprocess.CompletedProcess([script, *arguments], process.exitcode, *said)


def _typed(folder: Path, files: list[Path], script: str, arguments: tuple[str, ...]) -> None:
    assert "pleural.train" in sys.modules, "nothing was imported: a preload must have failed"
    # What workers of a loader are forked from is the command, not this process.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(folder)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")

"""`python killed.py N key=value ...`: run.py, killed while it writes its N-th file.

Half of the file is on disk then, beside its place; where the N-th is a folder (a cache entry), all
of its files are halved. Not a test itself.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def kill_at(n):
    moves = 0

    def counted(move):
        def moved(self, target):
            nonlocal moves
            moves += 1
            if moves == n:
                for file in [self, *self.rglob("*")]:
                    if file.is_file():
                        os.truncate(file, file.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return move(self, target)

        return moved

    Path.replace, Path.rename = counted(Path.replace), counted(Path.rename)


if __name__ == "__main__":
    kill_at(int(sys.argv[1]))
    sys.argv = [str(ROOT / "run.py"), *sys.argv[2:]]
    sys.path.insert(0, str(ROOT))
    runpy.run_path(sys.argv[0], run_name="__main__")

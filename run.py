"""The only door: `python run.py key=value`; `python run.py --help` shows the keys."""

import sys
import threading
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pleural.command import as_typed, resumed, suggestions
from pleural.config import build_task, of_job
from pleural.errors import InputError

CONF = Path(__file__).parent / "conf"


def of_thread(what: threading.ExceptHookArgs) -> None:
    """A logger's writer that meets a full disk; the task meets it too, and tells what to do."""
    if isinstance(what.exc_value, OSError):
        print(what.exc_value, file=sys.stderr)
    else:
        threading.__excepthook__(what)


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(config: DictConfig) -> float:
    """Build the task, run it; what it returns is what a sweep compares."""
    threading.excepthook = of_thread
    try:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            return of_job(config, Path(__file__))
        return build_task(config)()
    except (InputError, OSError) as error:  # such as a full disk: it names the file
        if config.debug:
            raise
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # what a shell says of a program that Ctrl-C ended


if __name__ == "__main__":
    try:
        sys.argv[1:] = [as_typed(argument) for argument in resumed(sys.argv[1:], CONF)]
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    try:
        main()
    except SystemExit as end:
        # At 1 Hydra could not compose what was asked for, and has said why; or a task stumbled.
        hints = suggestions(sys.argv[1:], CONF) if end.code == 1 else []
        for hint in hints:
            print(hint, file=sys.stderr)
        raise SystemExit(2 if hints else end.code) from None

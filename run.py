"""The only door: `python run.py key=value`; `python run.py --help` shows the keys."""

import math
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pleural.config import build_task, suggestions
from pleural.errors import InputError

CONF = Path(__file__).parent / "conf"


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(config: DictConfig) -> float:
    """Build the task, run it; what it returns is what a sweep compares."""
    try:
        return build_task(config)()
    except InputError as error:
        if config.debug:
            raise
        print(error, file=sys.stderr)
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            return math.nan  # the other jobs go on; the table says that this one failed
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # what a shell says of a program that Ctrl-C ended


if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        if end.code == 1:  # Hydra could not compose what was asked for, and has said why
            for hint in suggestions(sys.argv[1:], CONF):
                print(hint, file=sys.stderr)
        raise

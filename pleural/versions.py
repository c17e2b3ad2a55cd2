"""With what a result was made."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from pleural import __version__

PACKAGES = ("torch", "monai", "pytorch-lightning", "hydra-core", "numpy", "nibabel")


def versions() -> dict[str, str]:
    """Of Python, the machine and what decides a result."""
    found = {package: version(package) for package in PACKAGES}
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "pleural": __version__,  # the code that runs, installed or not
        **found,
        "code": code_version(),
    }


def of_any_machine(found: Mapping[str, str]) -> dict[str, str]:
    """``found`` but for the machine, on which results do not depend."""
    return {name: value for name, value in found.items() if name != "machine"}


def code_version() -> str:
    """The commit this code is at, ``+changes`` where files differ from it, or ``no git``."""
    here = Path(__file__).parent
    try:
        commit, changes = (
            subprocess.run(["git", *command], cwd=here, capture_output=True, text=True, check=True)
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):  # installed from a wheel, or no git here
        return "no git"
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")

"""What was asked for, in one number: by it a finished run and its own configuration are known."""

from __future__ import annotations

import hashlib
import json

from omegaconf import DictConfig, OmegaConf

NO_SETTINGS = ("hydra", "name", "run_dir", "debug", "settings")  # where to, not what


def digest(config: DictConfig) -> str:
    """The same for two configurations that ask for the same, wherever their results go."""
    asked = OmegaConf.to_container(config, resolve=False)
    assert isinstance(asked, dict)
    kept = {key: value for key, value in asked.items() if key not in NO_SETTINGS}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

"""Where the time goes."""

from __future__ import annotations

import time


class Clock:
    """Seconds per stage, in the order in which the stages came."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str, least_s: float = 0.0) -> None:
        """The time since the last lap was spent on ``stage``: in all ``least_s`` or more."""
        now = time.perf_counter()
        spent_s = self.seconds.get(stage, 0.0) + now - self._since
        self.seconds[stage] = round(max(spent_s, least_s), 2)
        self._since = now

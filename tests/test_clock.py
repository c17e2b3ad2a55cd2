"""Where the time goes."""

import time

from pleural.clock import Clock


def test_each_stage_gets_the_time_since_the_last(monkeypatch):
    moments = iter([10.0, 11.5, 14.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    clock = Clock()
    clock.lap("read")
    clock.lap("write")
    clock.lap("read")
    assert clock.seconds == {"read": 2.5, "write": 2.5}

"""Ctrl-C during a training."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import Callback, Trainer

STDERR = 2  # its descriptor: Python's own streams may not be entered again in a signal handler


class Interrupt(Callback):
    """Ctrl-C ends a training after the step or validation case that it meets; a second one at once.

    Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. In the middle of a
    queue's ``put``, that of TensorBoard's writer for one, it leaves the queue locked, and whoever
    closes the writer waits for ever (https://github.com/python/cpython/issues/74174).
    """

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def heard(self, trainer: Trainer) -> Iterator[None]:
        """In here Ctrl-C asks, unless it is ignored or handled by somebody else.

        One of several processes is stopped at once: the others would wait for its next gradients.
        """
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        if trainer.world_size == 1:
            signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:  # Lightning, once interrupted, has it ignored
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _ask(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(STDERR, b"\nstopping after this step (Ctrl-C once more: at once)\n")

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt

"""A run folder as files for other people's programs, and for people.

task         all of it in one go
network      ``model.onnx``: the network alone, patches in, logits out
description  ``model.json``: all else that a program needs
card         ``MODEL_CARD.md``: what a person needs
bundle       ``bundle/``: a MONAI bundle that works without `pleural`
"""

from pleural.export.task import export

__all__ = ["export"]

"""Words and numbers for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def brief(text: object, most: int = 60) -> str:
    """What a file holds where a word was expected, cut to a length that a sentence bears.

    >>> brief("CT"), brief("x" * 100, most=5)
    ('CT', 'xxxxx...')
    """
    text = str(text)
    return text if len(text) <= most else f"{text[:most]}..."


def listed(things: Sequence[Any] | np.ndarray, most: int = 8, form: str = "") -> str:
    """The first few names or numbers, these in a format, and how many more there are.

    >>> listed(["A", "B"]), listed([1.0, 2.5, 3.0], most=2, form="g")
    ('A, B', '1, 2.5 and 1 more')
    """
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(f"{thing:{form}}" for thing in things[:most]) + more


def counted(number: int, noun: str) -> str:
    """A number of things, in words.

    >>> counted(1, "scan"), counted(2, "scan")
    ('1 scan', '2 scans')
    """
    return f"{number} {noun}{'s' * (number != 1)}"

"""Words and numbers for people."""

from __future__ import annotations

from collections.abc import Sequence


def brief(text: object, most: int = 60) -> str:
    """What a file holds where a word was expected, cut to a length that a sentence bears.

    >>> brief("CT"), brief("x" * 100, most=5)
    ('CT', 'xxxxx...')
    """
    text = str(text)
    return text if len(text) <= most else f"{text[:most]}..."


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first few names, and how many more there are.

    >>> listed(["A", "B"]), listed(["A", "B", "C"], most=2)
    ('A, B', 'A, B and 1 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str) -> str:
    """A number of things, in words.

    >>> counted(1, "scan"), counted(2, "scan")
    ('1 scan', '2 scans')
    """
    return f"{number} {noun}{'s' * (number != 1)}"

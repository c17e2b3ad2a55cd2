"""Files and folders that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from pleural.errors import InputError, first_line


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """``write`` is given a path beside ``path``, with the same suffixes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # By chance, as processes on two machines, or in two containers, may share a number.
    partial = path.with_name(f".{uuid4().hex}.{path.name}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_folder(path: Path, write: Callable[[Path], Any]) -> None:
    """``write`` is given an empty folder beside ``path`` to fill.

    Where another process was first with a folder of this name, that one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
        whole = Path(beside, path.name)
        whole.mkdir()
        write(whole)
        try:
            whole.replace(path)
        except OSError:
            if not path.is_dir():
                raise


def write_text(path: Path, text: str) -> None:
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """CSV with the columns of all rows, in the order they first occur, which is returned.

    What a row does not have is left empty.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)
    return columns


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by their columns, as text.

    Raises:
        OSError, ValueError, csv.Error: there is no such file, or it is no table.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """``None`` where there is no such file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, where names and values belong")
    return content

"""Scans and masks that lie anywhere, listed in a table: a CSV file with a row for each case."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from io import StringIO
from pathlib import Path
from typing import ClassVar

from pleural.data.case import Case, marked, natural
from pleural.errors import Findings, InputError
from pleural.io import find

COLUMNS = ("image", "mask", "patient")
NO_FILE_NAME = re.compile(r'^\.|[/\\:*?"<>|\x00-\x1f]')


@dataclass(frozen=True)
class Table:
    """One case for each row, named by the column ``name`` or else after the image.

    Fields are separated by commas, semicolons or tabs; the file is UTF-8, with or without BOM. Rows
    without any text and columns of other names are passed over.

    - ``image``: a NIfTI file, or the folder in which the slices of one DICOM series lie; or a
      ``.zip`` of either.
    - ``mask``: a NIfTI file; empty for an unlabelled case, which is not a negative one.
    - ``patient``: rows of one patient stay together in a split; empty: the name of the case.
    - ``name`` (the column may be missing): needed where two images are called the same.

    Args:
        path: the CSV file.
        root: what relative paths start from; ``None``: the folder of the CSV file.
        negatives: a shell pattern, or several, of cases or patients known to be free of effusion.
        distrusted: the same, of cases or patients whose masks are too poor to learn from.
    """

    LAYOUT: ClassVar[str] = cleandoc("""
        image,mask,patient
        scans/a1.nii.gz,masks/a1.nii.gz,A
        scans/a2,,A

        NIfTI files, or for an image the folder of one DICOM series, or a .zip of either; a scan
        without a mask is unlabelled. A column "name" tells images apart that are called the same.
    """)

    path: str | Path
    root: str | Path | None = None
    negatives: str | Sequence[str] | None = ()
    distrusted: str | Sequence[str] | None = ()

    def cases(self) -> list[Case]:
        """The cases in natural order of their names.

        Raises:
            InputError: the file cannot be read, lacks a column, or has no rows.
            Findings: by line, rows of another length than the header, files that are missing or of
                another kind, names that cannot name a file, and what is there twice.
        """
        path = Path(self.path).expanduser()
        base = path.parent if self.root is None else Path(self.root).expanduser()
        findings: list[str] = []
        cases = {line: _case(row, base) for line, row in _rows(path, findings).items()}
        for line, case in cases.items():
            findings += [f"line {line}: {what}" for what in _case_findings(case, base)]
        findings += _repetitions(cases)
        if findings:
            raise Findings(f"{path} cannot be used:", sorted(findings, key=natural))
        if not cases:
            raise InputError(f"{path}: no rows below the header")
        ordered = sorted(cases.values(), key=lambda case: natural(case.name))
        return marked(ordered, self.negatives, self.distrusted)


def _rows(path: Path, findings: list[str]) -> dict[int, dict[str, str]]:
    """Fields by column for each line; lines with more or fewer fields than the header are noted."""
    header, lines = _lines(path)
    if missing := [column for column in COLUMNS if column not in header]:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; its first line has {', '.join(header)};"
            f" expected:\n\n{Table.LAYOUT}"
        )
    rows = {}
    for line, fields in lines:
        if len(fields) == len(header):
            rows[line] = dict(zip(header, fields, strict=True))
        else:
            findings.append(f"line {line}: {len(fields)} fields, the header has {len(header)}")
    return rows


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The columns in lower case, and the fields of each further line that has any, numbered."""
    text = _text(path)
    reader = csv.reader(StringIO(text), delimiter=_delimiter(text))
    try:
        table = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} is no CSV ({error})") from error
    filled = [(line, fields) for line, fields in table if any(fields)]
    if not filled:
        raise InputError(f"{path}: empty; expected:\n\n{Table.LAYOUT}")
    return [column.lower() for column in filled[0][1]], filled[1:]


def _text(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; expected:\n\n{Table.LAYOUT}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8; save it as 'CSV UTF-8'") from error


def _delimiter(text: str) -> str:
    """What separates the columns of the header; a comma where there is only one column."""
    try:
        return csv.Sniffer().sniff(text.split("\n", 1)[0], delimiters=",;\t").delimiter
    except csv.Error:
        return ","


def _case(row: Mapping[str, str], base: Path) -> Case:
    image = base / row["image"]
    name = row.get("name") or find.stem(image)
    mask = base / row["mask"] if row["mask"] else None
    return Case(name, patient=row["patient"] or name, image=image, mask=mask)


def _case_findings(case: Case, base: Path) -> Iterator[str]:
    if case.image == base:
        yield "no image"
    elif not case.image.exists():
        yield f"there is no image {case.image}"
    elif not find.may_hold_scan(case.image):
        yield f"image {case.image} is neither NIfTI, nor a folder, nor a zip"
    if case.mask and not case.mask.is_file():
        yield f"there is no mask {case.mask}"
    elif case.mask and not find.is_nifti(case.mask):
        yield f"mask {case.mask} is no NIfTI file"
    if NO_FILE_NAME.search(case.name):
        yield f"name {case.name!r} cannot be the name of a file"


def _repetitions(cases: Mapping[int, Case]) -> Iterator[str]:
    seen: dict[tuple[str, str], int] = {}
    for line, case in cases.items():
        for what, value in (("name", case.name), ("image", case.image), ("mask", case.mask)):
            first = seen.setdefault((what, str(value)), line)
            if value and first != line:
                remedy = "; tell them apart in a column name" if what == "name" else ""
                yield f"line {line}: {what} {value} is that of line {first} too{remedy}"

"""Scans in zip archives, as hospitals hand them out: unpacked for as long as they are read."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath, PureWindowsPath
from tempfile import TemporaryDirectory
from zipfile import ZipFile, ZipInfo

from pleural.errors import Findings, InputError, one_line
from pleural.io.find import SCANS, contents, is_archive

MOST_BYTES = 8 << 30  # 4096 slices of 1024² voxels; what grows beyond is a bomb, or many scans
CHUNK_BYTES = 1 << 20
ENCRYPTED = 0x1  # bit of ZipInfo.flag_bits


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """``path`` itself; of a .zip the one scan in it, the folder of a CT series or a NIfTI file.

    The archive is unpacked into a temporary folder that is gone afterwards; an ``InputError`` that
    is raised meanwhile names the archive instead. Hidden files, scouts and other modalities are
    passed over.

    Raises:
        InputError: the archive is damaged or unpacks to more than ``MOST_BYTES``; a member is
            encrypted, a link or an archive, or its name leads out of the archive; or there is no
            scan in it, or more than one.
    """
    if path.is_dir() or not is_archive(path):
        yield path
        return
    with TemporaryDirectory(prefix="pleural-") as folder:
        try:
            _unpack(path, Path(folder))
            yield _one_scan(Path(folder))
        except InputError as error:
            error.args = (str(error).replace(folder, str(path)),)
            if isinstance(error, Findings):
                error.findings = [one.replace(folder, str(path)) for one in error.findings]
            raise


def _unpack(path: Path, folder: Path) -> None:
    left = MOST_BYTES
    try:
        with ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(("/", "\\")):
                    continue  # folders come with their files
                place = PureWindowsPath(member.filename)  # knows drives, and / as well as \
                _check(path, member, place)
                if "__MACOSX" not in place.parts:  # what a Mac adds to each file
                    left -= _extract(archive, member, folder.joinpath(*place.parts), left)
    except InputError:
        raise
    except Exception as error:  # zipfile, its decoders and the file system each have their own
        raise InputError(
            f"{path}: cannot be unpacked ({one_line(error)}); fetch it again, or give its scan as"
            " a folder"
        ) from error


def _check(path: Path, member: ZipInfo, place: PurePath) -> None:
    if place.anchor or ".." in place.parts:
        finding = "leads out of the archive"
    elif stat.S_ISLNK(member.external_attr >> 16):  # where Unix keeps a file's mode
        finding = "is a link"
    elif member.flag_bits & ENCRYPTED:
        finding = "is encrypted"
    elif is_archive(place):
        finding = "is an archive in the archive"
    else:
        return
    raise InputError(
        f"{path}: {member.filename} {finding}; give the scan as a folder or as a plain zip of its"
        " own"
    )


def _extract(archive: ZipFile, member: ZipInfo, target: Path, most_bytes: int) -> int:
    """The number of bytes written, counted because a header may state any."""
    written = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, target.open("xb") as file:  # x: no name comes twice
        while chunk := packed.read(CHUNK_BYTES):
            written += len(chunk)
            if written > most_bytes:
                raise InputError(
                    f"{archive.filename}: unpacks to more than {MOST_BYTES / 1e9:.3g} GB, which is"
                    " no single CT scan"
                )
            file.write(chunk)
    return written


def _one_scan(folder: Path) -> Path:
    kinds = contents(folder)
    scans = [path for path, kind in kinds.items() if kind in SCANS]
    if not scans:
        others = ", ".join(sorted(set(kinds.values()))) or "neither NIfTI nor DICOM"
        raise InputError(f"{folder}: no scan in it ({others})")
    if len(scans) > 1:
        first, second = (path.relative_to(folder) for path in scans[:2])
        raise InputError(
            f"{folder}: {len(scans)} scans in it, such as {first} and {second}; zip each by itself"
        )
    return scans[0]

"""Zips of one scan, made well and in every way that must not be unpacked."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pytest

from pleural import io
from pleural.data.case import Case
from pleural.errors import Findings, InputError
from pleural.io import archive, dicom, nifti
from pleural.io.archive import unpacked
from pleural.volume import Volume
from tests.test_find import dicom as header

AFFINE = np.array([[-1.0, 0, 0, 30], [0, -1, 0, 20], [0, 0, 2.5, -40], [0, 0, 0, 1]])


def scan() -> Volume:
    rng = np.random.default_rng(0)
    return Volume(rng.integers(-1000, 1000, (12, 10, 8), np.int16), AFFINE)


@pytest.fixture(autouse=True)
def nothing_stays(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Whatever happens, the folder for temporary files is empty afterwards."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


def zipped(folder: Path, path: Path) -> Path:
    """All that lies beneath ``folder``, with the names it has there."""
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1) as file:
        for member in sorted(folder.rglob("*")):
            file.write(member, member.relative_to(folder))
    return path


def with_members(path: Path, *members: str | ZipInfo, content: bytes = b"any") -> Path:
    """A scan first, so that nothing but the other members can be the matter."""
    nifti.write(scan(), path.parent / "scan.nii")
    with ZipFile(path, "w", ZIP_DEFLATED) as file:
        file.write(path.parent / "scan.nii", "scan.nii")
        for member in members:
            file.writestr(member, content)
    return path


def refused(path: Path) -> str:
    """In one sentence that names the archive and nothing temporary."""
    with pytest.raises(InputError) as caught:
        io.read(path)
    told = str(caught.value)
    assert told.startswith(str(path)) and "\n" not in told and tempfile.gettempdir() not in told
    return told.removeprefix(str(path))


def test_what_is_no_zip_comes_back_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder.zip").mkdir()
    for path in (tmp_path, tmp_path / "folder.zip", tmp_path / "scan.nii.gz"):
        with unpacked(path) as same:
            assert same == path


@pytest.mark.parametrize("inside", [".", "study/series", "Пациент/CT 1", "a.zip"])
def test_a_zipped_series_is_the_series(tmp_path: Path, inside: str) -> None:
    dicom.write_series(scan(), tmp_path / "in" / inside, patient_id="A")
    path = zipped(tmp_path / "in", tmp_path / "胸 1.ZIP")
    volume, same = io.read(path), io.read(tmp_path / "in" / inside)
    np.testing.assert_array_equal(volume.array, same.array)
    np.testing.assert_array_equal(volume.affine, same.affine)
    np.testing.assert_array_equal(volume.array, scan().array)


@pytest.mark.parametrize("name", ["scan.nii", "a/b/scan.nii.gz"])
def test_a_zipped_nifti_file_is_that_file(tmp_path: Path, name: str) -> None:
    nifti.write(scan(), tmp_path / "in" / name)
    volume = io.read(str(zipped(tmp_path / "in", tmp_path / "scan.nii.gz.zip")))
    np.testing.assert_array_equal(volume.array, scan().array)
    np.testing.assert_array_equal(volume.affine, AFFINE)


def test_the_folder_is_there_as_long_as_it_is_needed(tmp_path: Path) -> None:
    dicom.write_series(scan(), tmp_path / "in" / "series", patient_id="A")
    with unpacked(zipped(tmp_path / "in", tmp_path / "a.zip")) as series:
        assert series.name == "series"
        assert len(list(series.iterdir())) == 8
    assert not series.exists()


def test_all_but_the_scan_is_passed_over(tmp_path: Path) -> None:
    study = tmp_path / "in" / "study"
    dicom.write_series(scan(), study / "ct", patient_id="A")
    header(study / "scout" / "1.dcm", "CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    header(study / "contours" / "1.dcm", "RTSTRUCT")
    header(tmp_path / "in" / "__MACOSX" / "study" / "ct" / "0001.dcm")
    header(tmp_path / "in" / ".hidden" / "1.dcm")
    for name in ("DICOMDIR", "README.txt", "ct/.DS_Store", "ct/._0001.dcm"):
        (study / name).write_text("no slice")
    path = zipped(tmp_path / "in", tmp_path / "a.zip")
    np.testing.assert_array_equal(io.read(path).array, scan().array)


def test_folders_may_be_parted_by_backslashes(tmp_path: Path) -> None:
    """Some archivers for Windows write them, and the folders themselves as empty files."""
    dicom.write_series(scan(), tmp_path / "series", patient_id="A")
    with ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("study\\", b"")
        for member in (tmp_path / "series").iterdir():
            file.write(member, f"study\\series\\{member.name}")
        file.writestr("study\\other\\notes.txt", b"not DICOM")
    with unpacked(tmp_path / "a.zip") as series:
        assert (series.parent.name, series.name) == ("study", "series")


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "..\\x", "/x", "//x/y/z", "\\x", "C:\\x", "c:x", "__MACOSX/../../x"],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    before = {path.name for path in tmp_path.iterdir()} | {"a.zip", "scan.nii"}
    told = refused(with_members(tmp_path / "a.zip", name))
    assert f"{name} leads out of the archive; give the scan as a folder" in told
    assert {path.name for path in tmp_path.iterdir()} == before


def test_links_are_refused(tmp_path: Path) -> None:
    link = ZipInfo("series")
    link.external_attr = 0o120777 << 16
    told = refused(with_members(tmp_path / "a.zip", link, content=b"/etc"))
    assert told.startswith(": series is a link; give")


def test_archives_in_archives_are_refused(tmp_path: Path) -> None:
    told = refused(with_members(tmp_path / "a.zip", "more/b.ZIP"))
    assert told.startswith(": more/b.ZIP is an archive in the archive; give")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    """Bit 0 of the flags, 6 bytes into a local header and 8 into that of the directory."""
    path = with_members(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert refused(path).startswith(": scan.nii is encrypted; give")


def test_a_bomb_is_stopped_while_it_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_members(tmp_path / "a.zip", "zeros", content=bytes(10_000_000))
    size = (tmp_path / "scan.nii").stat().st_size
    assert path.stat().st_size < 20_000
    assert io.read(path).shape == (12, 10, 8)
    monkeypatch.setattr(archive, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(archive, "MOST_BYTES", 5_000_000)
    written = []
    extract = archive._extract

    def noted(file, member, target: Path, most_bytes: int) -> int:
        try:
            return extract(file, member, target, most_bytes)
        finally:
            written.append(target.stat().st_size)

    monkeypatch.setattr(archive, "_extract", noted)
    assert refused(path) == ": unpacks to more than 0.005 GB, which is no single CT scan"
    assert written[0] == size
    assert 5_000_000 - size - 1000 <= written[1] <= 5_000_000 - size


def test_the_bound_is_that_of_all_members_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_members(tmp_path / "a.zip", *(f"{i}.txt" for i in range(10)), content=bytes(1000))
    size = (tmp_path / "scan.nii").stat().st_size
    monkeypatch.setattr(archive, "MOST_BYTES", size + 10_000)
    assert io.read(path).shape == (12, 10, 8)
    monkeypatch.setattr(archive, "MOST_BYTES", size + 9_999)
    assert "unpacks to more than" in refused(path)


def test_a_size_that_is_a_lie_is_found_out(tmp_path: Path) -> None:
    """The header says 10 bytes of a file that is longer: the checksum of ten is another."""
    path = with_members(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\1\2")
    content[directory + 24 : directory + 28] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    assert "cannot be unpacked (Bad CRC-32 for file 'scan.nii')" in refused(path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_truncated_archives_are_refused(tmp_path: Path, share: float) -> None:
    path = with_members(tmp_path / "a.zip")
    os.truncate(path, int(share * path.stat().st_size))
    assert ": cannot be unpacked (File is not a zip file); fetch it again" in refused(path)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = with_members(tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    assert refused(path).startswith(": cannot be unpacked (")


def test_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = with_members(tmp_path / "a.zip", "scan.nii")
    assert "File exists" in refused(path)


def test_two_scans_are_refused(tmp_path: Path) -> None:
    header(tmp_path / "in" / "study" / "thick" / "1.dcm")
    header(tmp_path / "in" / "study" / "thin" / "1.dcm")
    told = refused(zipped(tmp_path / "in", tmp_path / "a.zip"))
    assert told == ": 2 scans in it, such as study/thick and study/thin; zip each by itself"
    (tmp_path / "in" / "scan.nii").touch()
    assert refused(zipped(tmp_path / "in", tmp_path / "b.zip")).startswith(": 3 scans in it")


def test_without_a_scan_what_there_is_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert refused(zipped(tmp_path / "in", tmp_path / "a.zip")) == (
        ": no scan in it (neither NIfTI nor DICOM)"
    )
    header(tmp_path / "in" / "1" / "1.dcm", "MR")
    header(tmp_path / "in" / "2" / "1.dcm", "CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    assert refused(zipped(tmp_path / "in", tmp_path / "b.zip")) == ": no scan in it (MR, scout)"


def test_what_its_reader_refuses_is_told_of_the_zip(tmp_path: Path) -> None:
    dicom.write_series(scan(), tmp_path / "in" / "series", patient_id="A")
    (tmp_path / "in" / "series" / "0003.dcm").write_bytes(b"cut short")
    told = refused(zipped(tmp_path / "in", tmp_path / "a.zip"))
    assert told.startswith("/series/0003.dcm: called .dcm, but")


def test_findings_stay_findings(tmp_path: Path) -> None:
    path = with_members(tmp_path / "a.zip")
    with pytest.raises(Findings) as caught, unpacked(path) as image:
        raise Findings(f"{image} cannot be used:", [f"{image}: dark", "bright"])
    assert caught.value.findings == [f"{path}/scan.nii: dark", "bright"]
    assert str(caught.value).startswith(f"{path}/scan.nii cannot be used:\n  - {path}/scan.nii: d")


def test_a_case_may_be_a_zip(tmp_path: Path) -> None:
    dicom.write_series(scan(), tmp_path / "in", patient_id="A")
    path = zipped(tmp_path / "in", tmp_path / "a.zip")
    case = Case("A", "A", path)
    loaded, _ = case.load()
    np.testing.assert_array_equal(loaded.array, scan().array)
    before = case.content_hash
    assert Case("B", "B", path.rename(tmp_path / "b.zip")).content_hash == before
    (tmp_path / "in" / "0001.dcm").unlink()
    other = zipped(tmp_path / "in", tmp_path / "c.zip")
    assert Case("A", "A", other).content_hash != before


def test_a_real_scan(plethora_root: Path, tmp_path: Path) -> None:
    series = next(path.parent for path in plethora_root.rglob("*.dcm"))
    volume, same = io.read(zipped(series, tmp_path / "a.zip")), io.read(series)
    np.testing.assert_array_equal(volume.array, same.array)
    np.testing.assert_array_equal(volume.affine, same.affine)

"""Damaged files by the hundred: each is read, or refused in a sentence that names it."""

import gzip
import random
import re
import resource
import struct
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pleural import io
from pleural.data.case import Case
from pleural.errors import InputError
from pleural.io import dicom, nifti
from pleural.volume import Volume

SECONDS, BYTES = 10.0, 512 << 20  # of one file of some kilobytes
N_BATCHES, BATCH = 16, 50
FORGET = Path("/proc/self/clear_refs")  # a 5 there forgets the most memory that was taken


def world() -> Volume:
    """A small body of water in air, with an effusion's worth of structure."""
    rng = np.random.default_rng(0)
    array = np.full((24, 20, 6), -1000, np.int16)
    array[4:20, 4:16] = 40
    array[8:14, 6:12] = -850
    return Volume((array + rng.integers(-20, 20, array.shape)).astype(np.int16), AFFINE)


AFFINE = np.array([[-3.0, 0, 0, 30], [0, -3.0, 0, 30], [0, 0, 5.0, -20], [0, 0, 0, 1]])


def outcome(path: Path) -> str:
    """``"read"``, or the words of the refusal; anything else that is raised fails the test."""
    begun = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pydicom, on what it forgives
            scan, _ = Case("case", "patient", path).load()
    except InputError as error:
        told = str(error)
        assert path.name in told
        assert "Traceback" not in told
        assert len(told) < 2000
    else:
        told = "read"
        assert np.isfinite(scan.array).all()
    assert time.monotonic() - begun < SECONDS
    assert most_memory() < BYTES + memory_at_start
    return told


memory_at_start = 0


@pytest.fixture(autouse=True)
def memory_before():
    """What was taken at most before this test is forgotten, where the system can (Linux)."""
    global memory_at_start
    if FORGET.exists():
        FORGET.write_text("5")
    memory_at_start = most_memory()


def most_memory() -> int:
    """Bytes that this process had at most, since then."""
    if FORGET.exists():
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * 1024


def mutated(content: bytes, rng: random.Random, within: int) -> bytes:
    """Cut, flipped, overwritten, doubled or thinned out, within its first bytes."""
    data, place = bytearray(content), rng.randrange(min(within, len(content)))
    how = rng.choice(["cut", "flip", "flips", "overwrite", "insert", "delete", "repeat"])
    if how == "cut":
        del data[place:]
    elif how == "flip":
        data[place] ^= 1 << rng.randrange(8)
    elif how == "flips":
        for _ in range(20):
            data[rng.randrange(min(within, len(data)))] ^= 1 << rng.randrange(8)
    elif how == "overwrite":
        value = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", struct.pack("<f", 1e30)])
        data[place : place + 4] = value
    elif how == "insert":
        data[place:place] = rng.randbytes(rng.randrange(1, 64))
    elif how == "delete":
        del data[place : place + rng.randrange(1, 64)]
    else:
        data[place:place] = data[: rng.randrange(1, 400)]
    return bytes(data)


@pytest.mark.parametrize("batch", range(N_BATCHES))
def test_mutated_series(tmp_path: Path, batch: int) -> None:
    folder = tmp_path / "serie"
    dicom.write_series(world(), folder, patient_id="P1")
    files = sorted(folder.iterdir())
    whole = {file: file.read_bytes() for file in files}
    told = []
    for number in range(BATCH):
        rng = random.Random(batch * BATCH + number)
        hit = files if rng.random() < 0.2 else [rng.choice(files)]  # all alike, or one of them
        seed = rng.randrange(2**32)
        for file in hit:
            within = 1200 if rng.random() < 0.9 else 10**9
            file.write_bytes(mutated(whole[file], random.Random(seed), within))
        told.append(outcome(folder))
        for file in hit:
            file.write_bytes(whole[file])
    assert outcome(folder) == "read"
    assert len({words == "read" for words in told}) == 2  # some are harmless, some are not


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("batch", range(N_BATCHES // 2))
def test_mutated_nifti(tmp_path: Path, batch: int, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    nifti.write(world(), path)
    whole = path.read_bytes()
    plain = gzip.decompress(whole) if suffix.endswith("gz") else whole
    told = []
    for number in range(BATCH):
        rng = random.Random(batch * BATCH + number)
        inside = suffix.endswith("gz") and rng.random() < 0.5  # a header that lies, well packed
        content = mutated(plain if inside or suffix == ".nii" else whole, rng, 352)
        path.write_bytes(gzip.compress(content, 1) if inside else content)
        told.append(outcome(path))
    assert len({words == "read" for words in told}) == 2


def test_a_header_that_claims_terabytes_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vast.nii.gz"
    nifti.write(world(), path)
    header = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<8h", header, 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    path.write_bytes(gzip.compress(bytes(header)))
    assert "larger than any CT scan" in outcome(path)


def test_slices_that_claim_gigabytes_cost_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "vast"
    dicom.write_series(world(), folder, patient_id="P1")
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        header.Rows = header.Columns = 65535
        header.save_as(file)
    assert "larger than any CT scan" in outcome(folder)


@pytest.mark.parametrize("spacing_mm", [1e-6, 1e-3, 1e4, 1e30])
def test_absurd_spacings(tmp_path: Path, spacing_mm: float) -> None:
    path = tmp_path / "spaced.nii"
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1])
    nib.save(nib.Nifti1Image(world().array, affine), path)
    assert outcome(path) != "read"


def test_one_slice(tmp_path: Path) -> None:
    path = tmp_path / "flat.nii"
    nifti.write(world().cropped((slice(None), slice(None), slice(0, 1))), path)
    assert outcome(path) == "read"


def test_a_thousand_slices(tmp_path: Path) -> None:
    path = tmp_path / "tall.nii"
    nifti.write(Volume(np.tile(world().array, (1, 1, 167)), AFFINE), path)
    assert outcome(path) == "read"


@pytest.mark.parametrize(
    "name", ["mit leer zeichen", "Пациент №7", "患者 一", "a'b\"c$(d)=[e],{f}"]
)
def test_names_of_all_kinds(tmp_path: Path, name: str) -> None:
    nifti.write(world(), tmp_path / f"{name}.nii.gz")
    dicom.write_series(world(), tmp_path / name, patient_id="P1")
    assert outcome(tmp_path / f"{name}.nii.gz") == outcome(tmp_path / name) == "read"


KEYWORDS = [
    *("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"),
    *("RescaleSlope", "RescaleIntercept", "BitsAllocated", "BitsStored", "HighBit", "ImageType"),
    *("PixelRepresentation", "SamplesPerPixel", "NumberOfFrames", "Modality", "SOPClassUID"),
    *("PhotometricInterpretation", "PixelPaddingValue", "SeriesInstanceUID", "RescaleType"),
]


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edited") / "serie"
    dicom.write_series(world(), folder, patient_id="P1")
    return {file: file.read_bytes() for file in sorted(folder.iterdir())}


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    keyword=st.sampled_from(KEYWORDS),
    raw=st.one_of(st.binary(max_size=64), st.from_regex(rb"[-+0-9.eE\\]{0,40}", fullmatch=True)),
    everywhere=st.booleans(),
)
def test_any_value_of_any_tag(edited, keyword, raw, everywhere):
    """Bytes as they are, under a tag that the reader looks at."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    vr = pydicom.datadict.dictionary_VR(tag).partition(" ")[0].encode()
    padded = raw + b" " * (len(raw) % 2)
    element = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(padded)) + padded
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    hit = list(edited) if everywhere else list(edited)[:1]
    for file in hit:
        content = edited[file]
        start = content.find(head + vr)
        if start >= 0:
            (size,) = struct.unpack_from("<H", content, start + 6)
            file.write_bytes(content[:start] + element + content[start + 8 + size :])
    try:
        outcome(hit[0].parent)
    finally:
        for file in hit:
            file.write_bytes(edited[file])


def test_what_the_mutations_found(edited) -> None:
    """Pydicom parses late, so it refused late; and what should be one word may be several."""
    file, content = next(iter(edited.items()))
    series = struct.pack("<HH", 0x0020, 0x000E)
    file.write_bytes(content.replace(series + b"UI", series + b"ZZ"))
    assert "cannot be read as DICOM" in outcome(file.parent)
    place = content.index(series) + 10
    file.write_bytes(content[:place] + b"\\" + content[place + 1 :])
    assert "holds 2 series" in outcome(file.parent)
    file.write_bytes(content)


def test_a_colour_image_and_a_series_in_time_are_refused(tmp_path: Path) -> None:
    colour = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, array in (("colour", colour), ("time", np.zeros((4, 4, 4, 3), np.int16))):
        path = tmp_path / f"{name}.nii"
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        with pytest.raises(InputError, match=name):
            io.read(path)

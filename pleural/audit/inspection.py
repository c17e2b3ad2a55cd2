"""One case under scrutiny: its files read, and everything suspicious about them in one list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pleural import io
from pleural.audit.placement import (
    border,
    border_suspicions,
    flip_suspicions,
    grid_difference,
    grid_suspicions,
)
from pleural.audit.suspicions import (
    NOTE,
    PARTLY,
    UNUSABLE,
    Region,
    Suspicion,
    beyond,
    density_suspicions,
    edge_suspicions,
    gap_suspicions,
    hole_suspicions,
    hu_suspicions,
    outside_fluid,
    speck_suspicions,
)
from pleural.data.case import (
    Case,
    mask_findings,
    overlap_findings,
    placed_on,
    scan_findings,
)
from pleural.dice import dice
from pleural.errors import InputError, one_line
from pleural.volume import Volume


@dataclass(frozen=True)
class Limits:
    """From where on a case is suspicious.

    Args:
        fluid_hu: lowest and highest HU of what may be fluid.
        most_outside_share: of a mask's voxels, outside ``fluid_hu``.
        most_open_share: of a mask's border, beyond which the same densities go on.
        least_reader_dice: of a further reader's mask with the reference.

    Raises:
        InputError: a share that is none, or a range of HU that does not grow.
    """

    fluid_hu: Sequence[float]
    most_outside_share: float
    most_open_share: float
    least_reader_dice: float

    def __post_init__(self) -> None:
        low, high = self.fluid_hu
        if not low < high:
            raise InputError(f"task.fluid_hu is a lower and a higher HU; got {[low, high]}")
        for name in ("most_outside_share", "most_open_share", "least_reader_dice"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"task.{name} is from 0 to 1; got {getattr(self, name)}")


@dataclass(eq=False)
class Inspection:
    """What was found at a case.

    ``facts`` are numbers for a table; what could not be measured is not in it. ``scan`` and
    ``mask`` (boolean) are RAS+ on one grid, ``None`` where they cannot be shown.
    """

    case: Case
    suspicions: list[Suspicion] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    scan: Volume | None = None
    mask: np.ndarray | None = None

    @property
    def score(self) -> float:
        return round(sum(suspicion.weight for suspicion in self.suspicions), 1)

    @property
    def ranked(self) -> list[Suspicion]:
        """Worst first; notes, which weigh nothing, at the end."""
        return sorted(self.suspicions, key=lambda suspicion: -suspicion.weight)

    @property
    def unusable(self) -> bool:
        """Not merely suspicious in more than one way."""
        return any(suspicion.weight >= UNUSABLE for suspicion in self.suspicions)

    def add_unusable(self, findings: Iterable[str], of: str) -> None:
        self.suspicions += [Suspicion(UNUSABLE, f"{of}: {finding}") for finding in findings]


def inspect(case: Case, limits: Limits) -> Inspection:
    """Read a case and check it; what cannot be read is a suspicion too."""
    seen = Inspection(case)
    scan = _read(case.image, seen)
    mask = _read(case.mask, seen) if case.mask else None
    if scan is not None:
        _inspect_scan(scan, seen)
    if mask is not None:
        seen.facts["volume_ml"] = round(mask.nonzero_ml, 2)
        seen.add_unusable(mask_findings(mask, case.negative), "mask")
    elif not case.labelled:
        seen.suspicions.append(Suspicion(NOTE, "unlabelled: only the scan was looked at"))
    if scan is None or mask is None or seen.unusable or not mask.array.any():
        return seen
    placed = placed_on(scan, mask)
    seen.facts["mask_grid"] = grid_difference(mask, scan)
    seen.add_unusable(overlap_findings(mask, placed), "mask")
    if not seen.unusable:
        seen.suspicions += grid_suspicions(mask, scan, placed.nonzero_ml)
        seen.mask = placed.reoriented().array.astype(bool)
        _inspect_mask(seen.scan or scan, seen.mask, seen, limits)
        _inspect_readers(scan, placed, seen, limits)
    return seen


def _inspect_scan(scan: Volume, seen: Inspection) -> None:
    seen.scan = scan.reoriented()
    seen.facts["slices"] = seen.scan.shape[2]
    seen.facts["spacing_mm"] = " x ".join(f"{mm:.3g}" for mm in seen.scan.spacing_mm)
    unusable = scan_findings(scan)
    seen.add_unusable(unusable, "scan")
    if not unusable:
        seen.suspicions += hu_suspicions(seen.scan)


def _inspect_mask(scan: Volume, mask: np.ndarray, seen: Inspection, limits: Limits) -> None:
    """``scan`` and ``mask`` are RAS+ on one grid, and the mask is not empty."""
    region = Region.around(scan, mask)
    hu = region.scan.array[region.mask]
    surface = border(region)
    seen.facts |= {
        "slices_with_mask": int(np.count_nonzero(mask.any(axis=(0, 1)))),
        "outside_fluid": round(float(outside_fluid(hu, limits.fluid_hu).mean()), 3),
        "median_hu": float(np.median(hu)),
        "open_border": round(surface.open_share, 3),
    }
    seen.suspicions += [
        *flip_suspicions(scan, mask, limits.fluid_hu),
        *density_suspicions(region, limits.fluid_hu, limits.most_outside_share),
        *border_suspicions(surface, limits.most_open_share),
        *hole_suspicions(region, limits.fluid_hu),
        *gap_suspicions(region, limits.fluid_hu),
        *speck_suspicions(region),
        *edge_suspicions(scan, mask),
    ]


def _inspect_readers(scan: Volume, reference: Volume, seen: Inspection, limits: Limits) -> None:
    """Compare the masks of further readers with the reference, on the grid of the scan."""
    for name in seen.case.readers:
        try:
            agreement = dice(seen.case.reading(name, scan).array, reference.array)
        except InputError as error:
            seen.suspicions.append(
                Suspicion(PARTLY, f"the {name} reader's mask: {one_line(error)}")
            )
            continue
        seen.facts[f"dice_{name}"] = round(agreement, 3)
        if agreement < limits.least_reader_dice:
            sentence = f"the {name} reader's mask agrees with the reference at a Dice of only"
            weight = beyond(1 - agreement, 1 - limits.least_reader_dice, PARTLY)
            seen.suspicions.append(Suspicion(weight, f"{sentence} {agreement:.2f}"))


def _read(path: Path, seen: Inspection) -> Volume | None:
    try:
        return io.read(path)
    except InputError as error:
        seen.suspicions.append(Suspicion(UNUSABLE, one_line(error)))
        return None

"""How well the midline is found, and doubted, where the field of view cuts a flank off.

    python benchmarks/midline.py --root DIR

Cuts every scan of `data=plethora`, from the right and from the left, so far beyond the midline of
the whole scan (negative: before it), and finds the midline of what is left. Prints a table in
Markdown: how far off it is, and in how many cuts its sides are called unsure.
"""

from __future__ import annotations

import argparse

import numpy as np

from pleural.data.case import read_scan
from pleural.data.plethora import Plethora
from pleural.midline import Midline, midline
from pleural.versions import versions
from pleural.volume import Volume

BEYOND_MM = (120, 100, 80, 60, 40, 20, 0, -20, -40)
WRONG_MM = 20.0


def place(found: Midline, scan: Volume) -> float:
    """Where along X, in voxels, the plane goes through the middle of ``scan``'s Y and Z."""
    _, y, z = (np.array(scan.shape) - 1) / 2
    return float(-(found.plane[1:] @ [y, z, 1]) / found.plane[0])


def cuts(scan: Volume) -> list[list[tuple[float, bool]]]:
    """For each of BEYOND_MM, of both sides: mm off, and whether the sides are called unsure."""
    whole, n, x_mm = place(midline(scan), scan), scan.shape[0], scan.spacing_mm[0]
    found = []
    for beyond_mm in BEYOND_MM:
        low, high = (round(whole + sign * beyond_mm / x_mm) for sign in (-1, 1))
        of_sides = []
        for view in (slice(max(0, low), n), slice(0, min(n, high))):
            part = scan.cropped((view, slice(None), slice(None)))
            of_part = midline(part)
            off_mm = abs(place(of_part, part) + view.start - whole) * x_mm
            of_sides.append((off_mm, not of_part.sure))
        found.append(of_sides)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the scans, as for data=plethora")
    cases = Plethora(parser.parse_args().root).cases()
    found = np.array([cuts(read_scan(case.image).reoriented()) for case in cases])
    print("| in view beyond the midline, mm | cuts | mm off, median | most ", end="")
    print(f"| more than {WRONG_MM:.0f} mm off | ... called unsure | others called unsure |")
    print("|---|---|---|---|---|---|---|")
    for beyond_mm, each in zip(BEYOND_MM, found.swapaxes(0, 1), strict=True):
        off_mm, unsure = each[..., 0].ravel(), each[..., 1].ravel() > 0
        wrong = off_mm > WRONG_MM
        cells = [beyond_mm, len(off_mm), f"{np.median(off_mm):.0f}", f"{off_mm.max():.0f}"]
        cells += [wrong.sum(), (wrong & unsure).sum(), (~wrong & unsure).sum()]
        print("| " + " | ".join(map(str, cells)) + " |")
    print(f"\nn = {len(cases)} scans; {versions()}")


if __name__ == "__main__":
    main()

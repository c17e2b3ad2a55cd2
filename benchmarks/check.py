"""Has anything become slower? A fresh run of `throughput.py` against the recorded ratios.

    python benchmarks/check.py data=plethora data.root=DIR
    python benchmarks/check.py --measured outputs/throughput.json --record

Only ratios of one run are compared, which hold on other machines better than seconds do; one that
is worse than recorded by more than --tolerance ends it with an error. Run by hand, before a release
or after a change to what is hot; never in the tests, as machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from throughput import CLAIMS, add_arguments, measured

from pleural.versions import versions

RECORDED = Path(__file__).resolve().parent / "recorded.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--measured", type=Path, help="what a run of throughput.py wrote, instead of a fresh one"
    )
    parser.add_argument("--tolerance", type=float, default=0.2, help="share of a recorded ratio")
    parser.add_argument(
        "--record", action="store_true", help="keep this run's as the recorded ones"
    )
    options = parser.parse_args()
    if options.measured:
        medians = json.loads(options.measured.read_text(encoding="utf-8"))["medians"]
    else:
        medians = measured(options.data, options.rounds)
    ratios = {claim: claim.value(medians) for claim in CLAIMS if claim.unit != "s"}
    if options.record:
        content = {claim.work: round(ratio, 3) for claim, ratio in ratios.items()}
        text = json.dumps({"machine": versions()["machine"], "ratios": content}, indent=2)
        RECORDED.write_text(text + "\n", encoding="utf-8")
        return
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["ratios"]
    slower = 0
    for claim, ratio in ratios.items():
        change = ratio / recorded[claim.work] - 1
        worse = change if claim.at_least is None else -change
        slower += worse > options.tolerance
        told = "SLOWER" if worse > options.tolerance else "fine"
        print(f"{told:7} {ratio:7.3g} now {recorded[claim.work]:7.3g} recorded  {claim.work}")
    if slower:
        raise SystemExit(
            f"{slower} of {len(ratios)} are worse by more than {options.tolerance:.0%}"
        )


if __name__ == "__main__":
    main()

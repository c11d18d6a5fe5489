"""`make bench-coupons DATA=PATH`: how well coupons are given, as JSON lines.

hillstrom    uplift learners on Hillstrom's randomised e-mail test; DATA is its Parquet file,
             or the folder with hillstrom.parquet
journey      who redeems what in Complete Journey, judged on later campaigns
allocation   offers under budgets in simulated shops, against the optimum and propensity
programme    the time of a linear programme of a million user-coupon pairs
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from threadpoolctl import threadpool_limits

from infra.bench import allocation_trials, redemption_trials, uplift_trials
from offline.progress import Progress

PARTS: Final = ("hillstrom", "journey", "allocation", "programme")


def _measure(part: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if part == "hillstrom":
        splits = range(args.first_split, args.first_split + args.splits)
        yield from uplift_trials.measure(args.data, splits, Progress())
    if part == "journey":
        yield from redemption_trials.measure(args.home, Progress())
    if part == "allocation":
        for seed in args.seeds:
            yield from allocation_trials.measure(seed, Progress(), args.visitors)
    if part == "programme":
        yield allocation_trials.measure_programme()


def main() -> int:
    """Measure the parts asked for and print a line for each figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="where Hillstrom's data lie")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--splits", type=int, default=20, help="default: %(default)s")
    parser.add_argument(
        "--first-split", type=int, default=0, help="number of the first split, default: 0"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], help="of simulated shops, default: 0"
    )
    parser.add_argument(
        "--visitors",
        type=int,
        default=allocation_trials.NUM_VISITORS,
        help="of a simulated day, default: %(default)s",
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=Path("var/bench/coupons"),
        help="where Complete Journey's tables are kept, default: %(default)s",
    )
    args = parser.parse_args()
    if "hillstrom" in args.parts and not (args.data and args.data.exists()):
        print(
            "error: no data. Say where hillstrom.parquet lies: make bench-coupons DATA=PATH",
            file=sys.stderr,
        )
        return 2
    with threadpool_limits(1):
        for part in args.parts:
            for row in _measure(part, args):
                print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

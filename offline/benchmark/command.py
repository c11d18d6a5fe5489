"""Benchmark: train on a public data set, judge it once, print a JSON line for each model.

Everything was chosen on the validation period of each data set; the test period is for reporting.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Final

from offline.benchmark.setting import Setting
from offline.progress import Progress

BENCHMARKS: Final = (
    *("completejourney", "gowalla", "tafeng", "diginetica", "throughput"),
    *("twotower", "visits", "baskets"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline benchmark`."""
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder of the data set; canonical tables for completejourney, twotower, baskets",
    )
    parser.add_argument(
        "--period", choices=("test", "validation"), default="test", help="default: %(default)s"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(args: argparse.Namespace) -> int:
    """Print the lines as they come."""
    setting = Setting(args.data, args.period, args.device, Progress(args.quiet))
    for line in import_module(f"offline.benchmark.{args.name}").run(setting):
        print(line, flush=True)
    return 0

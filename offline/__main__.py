"""The command line of the offline jobs: `python -m offline COMMAND`."""

import os

# Before the first import of NumPy, FAISS or implicit: their thread pools read these once. BLAS
# inside a parallel trainer must not start threads of its own, and threads that wait must not keep
# the cores from a process that learns beside.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Final

from feature_store.errors import FeatureStoreError
from offline.errors import OfflineError
from online.errors import OnlineError

COMMANDS: Final = {
    "demo": ("offline.demo", "do it all on the demo shop, from data to answers over gRPC"),
    "ingest": ("offline.ingest.command", "read a shop's tables into canonical ones"),
    "train": ("offline.train", "learn, judge, register, and move the champion if it is better"),
    "search": ("offline.search", "try values of a recipe, and keep the best as a file"),
    "answering": ("offline.content.tuning", "fit how questions about content are answered"),
    "materialize": ("offline.materialize", "load the online store with what users did"),
    "sync": ("offline.sync", "bring the champion to where the server reads it"),
    "export": ("offline.export", "write the mails of a campaign, or a slate for every user"),
    "mailed": ("offline.campaigns.mailed", "take in what became of a campaign's mails"),
    "campaign-report": ("offline.campaigns.report", "what a campaign did, arms against hold-out"),
    "experiment-report": ("offline.experiment_report", "what differs between an experiment's arms"),
    "benchmark": ("offline.benchmark.command", "train and judge on a public data set"),
    "chat": ("offline.talk", "talk to the demo shop in the terminal"),
    "converse": ("offline.converse", "play scripted conversations and check every answer"),
    "quality": ("offline.quality", "look whether the tables are fit to learn from"),
    "parity": ("offline.parity", "compute served features again, and compare"),
    "features": ("offline.views", "print every feature as it is declared"),
    "compact": ("offline.compact", "move the server's event logs into the canonical tables"),
    "erase": ("offline.erase", "take erased people out of every file"),
    "retain": ("offline.retain", "keep nothing for longer than so many days"),
}
"""The module and the help of each command. A module is imported only when it is used."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = next((word for word in arguments if word in COMMANDS), None)
    parser = argparse.ArgumentParser(prog="python -m offline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run: Callable[[argparse.Namespace], int] = lambda _: 2  # noqa: E731
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            job = import_module(module)
            command.description = job.__doc__
            job.add_arguments(command)
            run = job.run
    try:
        return run(parser.parse_args(arguments))
    except (OfflineError, FeatureStoreError, OnlineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)


if __name__ == "__main__":
    sys.exit(main())

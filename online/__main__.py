"""`python -m online serve` answers over gRPC, `python -m online ask` asks: see --help of each."""

import argparse
import asyncio
import logging
import os
import sys
from typing import Final

from feature_store.errors import FeatureStoreError
from online.errors import OnlineError
from online.settings import (
    FIELDS,
    Settings,
    add_flags,
    as_variables,
    read_settings,
)

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 2 when it cannot do what was asked."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (FeatureStoreError, OnlineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m online", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serving = commands.add_parser(
        "serve",
        help="serve the champion over gRPC until stopped",
        description="Each option is also an environment variable: --drain-s is AISLE_DRAIN_S.",
    )
    add_flags(serving)
    serving.set_defaults(run=_serve)
    asking = commands.add_parser("ask", help="ask a server and print what a page would show")
    _add_ask_arguments(asking)
    asking.set_defaults(run=_ask)
    return parser


def _add_ask_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", default="", help="the shop's id of the user; none: a stranger")
    parser.add_argument("--placement", default="home", help="where it is shown (%(default)s)")
    parser.add_argument(
        "--context-item", action="append", default=[], help="product of the page; may be repeated"
    )
    parser.add_argument("--new-only", action="store_true", help="nothing bought before")
    parser.add_argument("--page-size", type=int, default=0, help="how many; 0: as usual there")
    parser.add_argument("--locale", default="", help="language of the reasons, e.g. zh-CN")
    parser.add_argument("--query", default="", help="what was typed, for placement search_empty")
    parser.add_argument(
        "--address",
        default=os.environ.get("AISLE_ADDRESS", Settings().address),
        help="server (AISLE_ADDRESS, default: %(default)s)",
    )


def _serve(options: argparse.Namespace) -> None:
    """Supervise. This process loads nothing of what its workers serve with."""
    from online.process.supervisor import supervise

    flags = {name: getattr(options, name, None) for name in FIELDS}
    settings = read_settings(os.environ, flags)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("online").info("settings\n%s", settings)
    # Numeric libraries read these once, when they are first imported; their pools would
    # fight for the cores.
    variables = {**dict.fromkeys(THREAD_VARIABLES, "1"), **as_variables(os.environ, flags)}
    asyncio.run(supervise(settings, variables, lambda line: print(line, flush=True)))


def _ask(options: argparse.Namespace) -> None:
    from online.client import ask

    ask(options)


if __name__ == "__main__":
    sys.exit(main())

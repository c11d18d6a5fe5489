"""Talk to the demo shop: its server is started, and stopped at the end.

make chat
python -m offline chat --home var/demo --user 718
"""

import argparse
from pathlib import Path

from rich.console import Console

from feature_store.pointer import read_pointer
from offline.home import Home
from offline.serving import serving
from online.talking import Talker, converse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline chat`."""
    parser.add_argument(
        "--home", type=Path, default=Path("var/demo"), help="folder (default: %(default)s)"
    )
    parser.add_argument("--user", default="718", help="who talks (default: %(default)s)")
    parser.add_argument("--locale", default="", help="language where the words leave it open")


def run(args: argparse.Namespace) -> int:
    """Serve the shop's champion and talk, until an empty line."""
    home = Home.at(args.home)
    read_pointer(home.path)  # says what to do when there is no champion yet
    with serving(home) as address, Talker(address, args.user, args.locale) as talker:
        converse(talker, Console())
    return 0

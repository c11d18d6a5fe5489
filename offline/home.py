"""Where an installation keeps its things: one folder, by default `var`."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The places that jobs and the server share.

    `store` is the address of the online store, `tracking_uri` of MLflow, None for the
    embedded default.
    """

    path: Path
    store: str
    tracking_uri: str | None

    @property
    def tables(self) -> Path:
        """The canonical tables."""
        return self.path / "tables"

    @property
    def bundles(self) -> Path:
        """Bundles that training writes, before they are registered."""
        return self.path / "bundles"

    @property
    def reports(self) -> Path:
        """The pages of training runs."""
        return self.path / "reports"

    @property
    def recipes(self) -> Path:
        """Recipes that a search found."""
        return self.path / "recipes"

    @property
    def ledger(self) -> str:
        """The address of the ledger, the server's: who shares a store shares the ledger too."""
        own = f"sqlite:{self.path / 'ledger' / 'ledger.sqlite'}"
        is_shared = self.store.partition(":")[0] in ("redis", "rediss", "unix")
        return os.environ.get("AISLE_LEDGER") or (self.store if is_shared else own)

    @staticmethod
    def at(path: Path) -> "Home":
        """The home at `path`, with the addresses that the environment names."""
        store = os.environ.get("AISLE_STORE", f"lmdb:{path / 'store'}")
        return Home(path, store, os.environ.get("MLFLOW_TRACKING_URI"))

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The option that names the folder."""
        parser.add_argument(
            "--home",
            type=Path,
            default=Path(os.environ.get("AISLE_HOME", "var")),
            help="folder of this installation (AISLE_HOME, default: %(default)s)",
        )

    @staticmethod
    def from_arguments(args: argparse.Namespace) -> "Home":
        """The home that the command line names."""
        return Home.at(args.home)

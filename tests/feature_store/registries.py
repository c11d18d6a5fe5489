"""Small bundles, and homes with an empty registry that cost no migration each."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle, BundleWriter
from feature_store.registry import DATABASE, Registry, Version

ROLES = {"judged": bundle_pb2.ROLE_JUDGED, "refit": bundle_pb2.ROLE_REFIT}


@cache
def _empty_database() -> Path:
    """MLflow takes seconds to make its tables, so a process does it once."""
    folder = Path(tempfile.mkdtemp(prefix="aisle-registry-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / DATABASE).touch()
    assert Registry(folder).aliases() == {}
    return folder / DATABASE


def new_home(parent: Path) -> Path:
    """A home whose registry has its tables and nothing in them."""
    home = parent / "home"
    home.mkdir()
    shutil.copy(_empty_database(), home / DATABASE)
    return home


def write_bundle(parent: Path, content: int = 0, role: str = "refit") -> Bundle:
    """A bundle of three files in two folders; `content` makes it another one."""
    with BundleWriter(parent) as writer:
        writer.array("items/price", np.arange(content, content + 50, dtype=np.float32))
        writer.strings("items/id", ["apple", "梨"])
        return writer.commit(
            horizon_time=(1_500_000_000 + content) * 1_000_000,
            seed=7,
            recipe={"name": "small"},
            role=ROLES[role],
            num_items={"product": 2},
        )


def publish(registry: Registry, bundle: Bundle, alias: str = "champion") -> Version:
    """A run of one bundle, with the alias on it."""
    with registry.start_run("small") as run:
        version = registry.register(run, bundle)
    registry.set_alias(alias, version)
    return version

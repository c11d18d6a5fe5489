"""Bundles beside a shop's own, with what it holds and something more, under ids of their own."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import BundleWriter, open_bundle
from feature_store.pointer import serving_folder
from infra.bench.shop import Shop

NOTHING_MORE: Mapping[str, bytes] = {}


def twin_of(
    shop: Shop,
    role: bundle_pb2.Role.ValueType,
    more: Mapping[str, bytes] = NOTHING_MORE,
    put: Callable[[Path, Path], object] = os.link,
) -> Path:
    """A bundle with the files of the shop's, each `put` from there to here, and `more` of them.

    One of `more` takes the place of a file of the same name.
    """
    first = open_bundle(shop.bundle, verify=False)
    with BundleWriter(serving_folder(shop.home)) as writer:
        for name in first.manifest.files.keys() - more.keys():
            put(shop.bundle / name, writer.file(name))
        for name, content in more.items():
            writer.data(name, content)
        twin = writer.commit(
            horizon_time=first.horizon_time,
            seed=first.manifest.seed,
            recipe=dict(first.manifest.recipe),
            role=role,
            num_items=dict(first.manifest.num_items),
            code_revision=first.manifest.code_revision,
        )
    return twin.directory


def second_bundle(shop: Shop) -> Path:
    """A bundle beside the shop's with the same content in files of its own, and another id."""
    return twin_of(shop, bundle_pb2.ROLE_JUDGED, put=shutil.copyfile)

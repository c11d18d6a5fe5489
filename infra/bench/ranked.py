"""The synthetic shop with a ranker: a bundle beside its own, with a network of the usual size.

What the network says does not matter here, what it costs does: all features are made and all
layers run. The files are those of the shop's bundle, linked.
"""

import os
from pathlib import Path
from typing import Final

import numpy as np

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import BundleWriter, open_bundle
from feature_store.pointer import serving_folder
from feature_store.ranking import FEATURES_FILE, MODEL_FILE, RATED_SOURCES, feature_names
from infra.bench.shop import Shop
from offline.models.ranker import Lessons, fit_ranker
from offline.progress import QUIET
from offline.recipe import RankerConfig

NUM_LESSONS: Final = 2_000
LEARNING: Final = RankerConfig(num_trees=4, num_epochs=1, negative_share=1.0)
"""As small as learning may be; the network is as large as any."""


def ranked_bundle(shop: Shop) -> Path:
    """The shop's bundle with a ranker, made at the first use."""
    noted = shop.home / "ranked"
    if noted.exists():
        return serving_folder(shop.home) / noted.read_text()
    first = open_bundle(shop.bundle, verify=False)
    with BundleWriter(serving_folder(shop.home)) as writer:
        for name in first.manifest.files:
            os.link(shop.bundle / name, writer.file(name))
        writer.data(MODEL_FILE, _network())
        writer.json(FEATURES_FILE, list(feature_names(RATED_SOURCES)))
        twin = writer.commit(
            horizon_time=first.horizon_time,
            seed=first.manifest.seed,
            recipe=dict(first.manifest.recipe),
            role=bundle_pb2.ROLE_REFIT,
            num_items=dict(first.manifest.num_items),
            code_revision=first.manifest.code_revision,
        )
    noted.write_text(twin.directory.name)
    return twin.directory


def _network() -> bytes:
    """A network over the features, taught that what was often bought is bought again."""
    names = feature_names(RATED_SOURCES)
    features = np.random.default_rng(0).random((NUM_LESSONS, len(names)), np.float32)
    labels = (features[:, names.index("count_log")] > 0.5).astype(np.float32)
    return fit_ranker(features, Lessons.of_purchases(labels), LEARNING, 0, QUIET).onnx

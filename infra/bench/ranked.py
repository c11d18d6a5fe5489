"""The synthetic shop with a ranker: a bundle beside its own, with a network of the usual size.

What the network says does not matter here, what it costs does: all features are made and all
layers run. The files are those of the shop's bundle, linked.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from aisle.bundle.v1 import bundle_pb2
from feature_store.pointer import serving_folder
from feature_store.ranking import FEATURES_FILE, MODEL_FILE, RATED_SOURCES, feature_names
from infra.bench.shop import Shop, point_to
from infra.bench.twins import twin_of
from offline.models.ranker import Lessons, fit_ranker
from offline.progress import QUIET
from offline.recipe import RankerConfig

NUM_LESSONS: Final = 2_000
LEARNING: Final = RankerConfig(num_trees=4, num_epochs=1, negative_share=1.0)
"""As small as learning may be; the network is as large as any."""


def ranked_bundle(shop: Shop) -> Path:
    """The shop's bundle with a ranker, made at the first use and when its features change."""
    noted, names = shop.home / "ranked", list(feature_names(RATED_SOURCES))
    if noted.exists():
        twin = serving_folder(shop.home) / noted.read_text()
        if json.loads((twin / FEATURES_FILE).read_bytes()) == names:
            return twin
    more = {MODEL_FILE: _network(), FEATURES_FILE: json.dumps(names).encode()}
    twin = twin_of(shop, bundle_pb2.ROLE_REFIT, more)
    noted.write_text(twin.name)
    return twin


@contextmanager
def as_champion(shop: Shop, *, is_plain: bool) -> Iterator[Shop]:
    """The shop with the bundle that is measured for its champion, with a ranker or `is_plain`.

    Its own bundle is the champion again on leaving.
    """
    measured = shop if is_plain else replace(shop, bundle=ranked_bundle(shop))
    point_to(measured, measured.bundle)
    try:
        yield measured
    finally:
        point_to(shop, shop.bundle)


def _network() -> bytes:
    """A network over the features, taught that what was often bought is bought again."""
    names = feature_names(RATED_SOURCES)
    features = np.random.default_rng(0).random((NUM_LESSONS, len(names)), np.float32)
    labels = (features[:, names.index("count_log")] > 0.5).astype(np.float32)
    return fit_ranker(features, Lessons.of_purchases(labels), LEARNING, 0, QUIET).onnx

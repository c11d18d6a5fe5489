"""The retrieval bench on a small shop, whose index is exact."""

import numpy as np

from feature_store.bundle import open_bundle
from infra.bench.bench_retrieval import allowed_sets, measure
from infra.bench.shop import Shop
from infra.bench.user_vectors import user_vectors
from online.snapshot import open_snapshot


def test_allowed_sets_have_the_size_they_say(shop: Shop) -> None:
    for allowed in allowed_sets(open_bundle(shop.bundle)):
        if allowed.items is not None:
            assert len(allowed.items) == round(allowed.selectivity * shop.num_items)
            assert (np.diff(allowed.items) > 0).all()


def test_an_exact_index_finds_everything(shop: Shop) -> None:
    bundle = open_bundle(shop.bundle)
    vectors = user_vectors(shop, bundle, 12)
    assert vectors.shape == (12, 64)
    rows = list(measure(open_snapshot(bundle), vectors, num_timed=3))
    assert {row["selectivity"] for row in rows} == {1.0, 0.1, 0.01, 0.001}
    assert all(row["recall_at_200"] > 0.999 for row in rows)
    assert all(row["us_per_query"] > 0 and row["speedup_over_flat"] > 0 for row in rows)

"""Complete Journey's coupons by time: who redeems what, against popularity and own categories.

Models learn from campaigns that began before the cut and redemptions before it, and are judged on
the campaigns that began after it. All is known as of each campaign's first instant. Ranked are the
coupons of a campaign for each household that it chose; recall@5 is over the households that
redeemed any, AUC over all pairs. Intervals draw households anew.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.coupon_features import COUPON_FEATURES
from feature_store.ids import Pseudonymizer, load_key
from feature_store.schema import CATEGORY_SEPARATOR
from offline.adapters.complete_journey import complete_journey_sources
from offline.coupons.examples import Examples, Floats, past_examples, read_goods
from offline.coupons.redemption import fit_redemption
from offline.dataset import Dataset, load_dataset
from offline.ingest.job import IngestJob, ingest
from offline.progress import Progress
from offline.recipe import completejourney

CUT: Final = datetime(2017, 10, 30, tzinfo=UTC)
K: Final = 5
NUM_RESAMPLES: Final = 200
MODEL: Final = "trees"


def measure(home: Path, progress: Progress) -> Iterator[dict[str, Any]]:
    """A row for each ranker, and the model's gain over each baseline, paired."""
    tables = home / "tables"
    if not tables.exists():
        job = IngestJob(sources=complete_journey_sources(), out=tables)
        ingest(job, Pseudonymizer(load_key(home)), progress, lambda _: None)
    cut = int(CUT.timestamp()) * 1_000_000
    config = completejourney().data
    past, whole = (load_dataset(tables, config, time) for time in (cut, 2**52))
    learned = past_examples(past, 0, cut)
    judged = past_examples(whole, cut, 2**52)
    trees = fit_redemption(learned, seed=7)
    if trees is None:
        raise ValueError("Complete Journey has too few redemptions before the cut")
    scores = {
        MODEL: np.asarray(trees.predict(judged.features, num_threads=1), np.float64),
        "popularity": judged.features[:, COUPON_FEATURES.index("base_rate_logit")].astype(float),
        "own goods": judged.features[:, COUPON_FEATURES.index("own_goods_log")].astype(float),
        "own categories": own_categories(whole, judged, cut),
        "random": np.random.default_rng(0).random(len(judged)),
    }
    counts = {"num_learned": int(learned.labels.sum()), "num_judged": int(judged.labels.sum())}
    calibration = scores[MODEL].mean() / judged.labels.mean()
    yield from _rows(judged, scores, counts | {"calibration": round(float(calibration), 3)})


def own_categories(dataset: Dataset, judged: Examples, time: int) -> Floats:
    """Each user's share of purchases before `time` in the categories of each coupon's goods."""
    parts = dataset.items["category"].fill_null("").str.split(CATEGORY_SEPARATOR)
    names, category = np.unique(parts.list.head(2).list.join("/").to_numpy(), return_inverse=True)
    before = dataset.purchases.between(0, time)
    user_counts = np.zeros((len(dataset.users), len(names)), np.float32)
    np.add.at(user_counts, (before.user, category[before.item]), 1.0)
    goods = read_goods(dataset)
    named = np.zeros((len(goods.nums), len(names)), np.float32)
    named[goods.coupons, category[goods.items]] = 1.0
    totals = np.maximum(user_counts.sum(axis=1), 1.0)
    shares = (user_counts / totals[:, None]) @ named.T
    result: Floats = shares[judged.user, judged.coupon].astype(np.float64)
    return result


def _rows(
    judged: Examples, scores: dict[str, Floats], fixed: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    users = np.unique(judged.user)
    place = np.searchsorted(users, judged.user)
    rng = np.random.default_rng(0)
    shape = (NUM_RESAMPLES, len(users))
    drawn = np.stack(
        [np.bincount(row, minlength=shape[1]) for row in rng.integers(0, shape[1], shape)]
    )
    samples = {name: _resampled(judged, score, place, drawn) for name, score in scores.items()}
    everyone = np.ones((1, len(users)))
    means = {name: _resampled(judged, score, place, everyone)[0] for name, score in scores.items()}
    for name in scores:
        row = _row(name, means[name], samples[name])
        yield row | fixed if name == MODEL else row
    for name in scores:
        if name not in (MODEL, "random"):
            gain, gains = means[MODEL] - means[name], samples[MODEL] - samples[name]
            yield _row(f"{MODEL} minus {name}", gain, gains)


def _row(name: str, means: Floats, samples: Floats) -> dict[str, Any]:
    row: dict[str, Any] = {"part": "journey", "ranker": name}
    for number, measure_name in enumerate(("auc", f"recall_at_{K}")):
        ends = np.quantile(samples[:, number], (0.025, 0.975))
        row[measure_name] = round(float(means[number]), 4)
        row[f"{measure_name}_interval"] = [round(float(end), 4) for end in ends]
    return row


def _resampled(
    judged: Examples, score: Floats, place: NDArray[np.intp], drawn: NDArray[Any]
) -> Floats:
    """AUC and recall of each resample of users, shape (resamples, 2)."""
    recall, owner = _recalls(judged, score, place)
    block = np.unique(score, return_inverse=True)[1]
    result = []
    for counts in drawn:
        of_groups = counts[owner]
        found = float(recall @ of_groups / max(of_groups.sum(), 1e-9))
        result.append((_auc(block, judged.labels, counts[place].astype(np.float64)), found))
    return np.array(result)


def _auc(block: NDArray[np.intp], labels: NDArray[np.float32], weights: Floats) -> float:
    """The weighted area under the curve; `block` is each row's rank, equal scores sharing one."""
    positive = np.bincount(block, weights * labels)
    negative = np.bincount(block, weights * (1.0 - labels))
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float(positive @ (below + 0.5 * negative) / pairs)


def _recalls(
    judged: Examples, score: Floats, place: NDArray[np.intp]
) -> tuple[Floats, NDArray[np.intp]]:
    """recall@K of each group with a redemption, and the user of each; ties in random order."""
    jitter = np.random.default_rng(1).random(len(score))
    order = np.lexsort((jitter, -score, judged.group))
    group, label = judged.group[order], judged.labels[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    rank = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    hits = np.bincount(group, label * (rank < K))
    wanted = np.bincount(group, label)
    found = np.flatnonzero(wanted > 0)
    owner = np.zeros(len(wanted), np.intp)
    owner[judged.group] = place
    return hits[found] / np.minimum(wanted[found], K), owner[found]

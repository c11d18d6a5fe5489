"""From slates to findings: every measure, its interval, and what the candidate leads by.

`aisle` is the ranker that is judged; all others are rivals on the same users, and each difference
is paired by user. All intervals come from one set of resamples.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.store import OnlineStore
from offline.dataset import Dataset
from offline.evaluation.probabilities import Probabilities, judge_probabilities
from offline.evaluation.segments import Segment, segments_of, strangers
from offline.evaluation.slates import (
    ItemFacts,
    as_matrix,
    category_diversity,
    coverage,
    diversity,
    item_facts,
    novelty,
    slate_means,
)
from offline.metrics import (
    Interval,
    average_precision_at_k,
    bootstrap_columns,
    hit_at_k,
    interval_of,
    mean_of,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
    resampled_means,
)
from offline.models.ranker import Ranker
from offline.progress import Progress
from offline.rank import examples_of, sample_users
from offline.reactions import load_reactions
from offline.recipe import Recipe
from offline.replay import Heldout, Judgement, K, load_heldout, replay
from online.snapshot import Snapshot

Floats = NDArray[np.float64]

AISLE: Final = "aisle"
POPULARITY: Final = "popularity"
MAX_PROBED_USERS: Final = 400
"""Of so many users the candidates' probabilities are looked at."""
NUM_SHOWN: Final = 20

ACCURACY: Final = {
    "recall": recall_at_k,
    "ndcg": ndcg_at_k,
    "map": average_precision_at_k,
    "mrr": reciprocal_rank_at_k,
    "hit_rate": hit_at_k,
}


@dataclass(frozen=True, slots=True)
class Period:
    """What a bundle is judged on: it, what it learned from, the states and the purchases after.

    `store` holds the states of the instant of the cut.
    """

    tables: Path
    recipe: Recipe
    past: Dataset
    snapshot: Snapshot
    store: OnlineStore
    heldout: Heldout


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure of one ranker, and what aisle has more of it, paired by user."""

    value: Interval
    lead: Interval | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Recall@20 of one segment, by ranker."""

    name: str
    about: str
    num_users: int
    num_purchases: int
    recall: Mapping[str, Compared]


@dataclass(frozen=True, slots=True)
class Shown:
    """A product that many slates hold: shares of users who see it, and who bought it after."""

    title: str
    category: str
    shown: float
    bought: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All findings of a run.

    `measures` is by measure and ranker. `popular_share` says, by ranker and for the purchases
    themselves, what share of places goes to the most popular hundredths of the catalogue, summed
    up, shape (101,). `missing`: the share of held-out purchases whose item is not in the bundle.
    """

    num_users: int
    num_items: int
    measures: Mapping[str, Mapping[str, Compared]]
    parts: tuple[Part, ...]
    probabilities: Probabilities | None
    popular_share: Mapping[str, Floats]
    most_shown: tuple[Shown, ...]
    missing: float
    stage_times_s: Mapping[str, float]

    def metrics(self) -> dict[str, float]:
        """The candidate's figures by name, as they are logged; those that are numbers."""
        found = {name: row[AISLE].value.mean for name, row in self.measures.items()}
        for part in self.parts:
            name = part.name.replace(" ", "_")
            found[f"recall_at_20_{name}"] = part.recall[AISLE].value.mean
        found |= self.probabilities.metrics() if self.probabilities else {}
        return {name: value for name, value in found.items() if np.isfinite(value)}


def evaluate(
    period: Period,
    judgements: Mapping[str, Judgement],
    ranker: Ranker | None,
    progress: Progress,
    champion: Snapshot | None = None,
) -> Evaluation:
    """Measure `judgements`, by ranker, whose slates hold the item indexes of `period.snapshot`.

    The champion is asked again for users of whom nothing is known.
    """
    facts = item_facts(period.snapshot, period.past)
    with progress.task("Measuring", len(judgements) + 2) as advance:
        columns: dict[tuple[str, str], Floats] = {}
        for name, judged in judgements.items():
            columns |= {(m, name): v for m, v in _columns(judged, period.heldout, facts).items()}
            advance(1)
        segments = segments_of(period.snapshot, period.store, period.heldout, facts)
        for segment in segments:
            for name, judged in judgements.items():
                columns[segment.name, name] = segment.recall(judged.slates["all"])
        advance(1)
        compared = _compared(columns)
        advance(1)
    apart, missing = _strangers(period, progress, champion)
    names = {segment.name for segment in segments}
    measures = {measure: row for measure, row in compared.items() if measure not in names}
    measures |= _whole(judgements, period.heldout, facts)
    return Evaluation(
        num_users=len(period.heldout.users),
        num_items=len(facts.popularity),
        measures=measures,
        parts=(*(_part(one, compared[one.name]) for one in segments), *apart),
        probabilities=_probabilities(period, ranker, progress),
        popular_share=_popular_share(judgements, period.heldout, facts),
        most_shown=_most_shown(judgements[AISLE], period),
        missing=missing,
        stage_times_s=judgements[AISLE].stage_times_s,
    )


def _columns(judged: Judgement, heldout: Heldout, facts: ItemFacts) -> dict[str, Floats]:
    """Each measure that is a mean over users, shape (users,)."""
    columns = {}
    for kind, truth in (("all", heldout.relevant), ("new", heldout.new)):
        pairs = list(zip(judged.slates[kind], truth, strict=True))
        for name, measure in ACCURACY.items():
            columns[f"{name}_at_{K}_{kind}"] = np.array(
                [measure(slate, items, K) if items else np.nan for slate, items in pairs]
            )
    slates = as_matrix(judged.slates["all"], K)
    columns["novelty_bits"] = novelty(slates, facts.popularity)
    columns["diversity"] = diversity(slates, facts.directions)
    columns["category_diversity"] = category_diversity(slates, facts.category)
    return columns


def _compared(columns: Mapping[tuple[str, str], Floats]) -> dict[str, dict[str, Compared]]:
    """By measure and ranker; aisle's leads are columns of the same resamples."""
    leads = {
        (measure, name): columns[measure, AISLE] - values
        for (measure, name), values in columns.items()
        if name != AISLE
    }
    flat = {f"{m}/{n}": v for (m, n), v in columns.items()}
    found = bootstrap_columns(flat | {f"{m}/{n}/lead": v for (m, n), v in leads.items()})
    table: dict[str, dict[str, Compared]] = {}
    for measure, name in columns:
        key = f"{measure}/{name}"
        table.setdefault(measure, {})[name] = Compared(found[key], found.get(f"{key}/lead"))
    return table


def _whole(
    judgements: Mapping[str, Judgement], heldout: Heldout, facts: ItemFacts
) -> dict[str, dict[str, Compared]]:
    """Measures that are no means over users: the catalogue's coverage and popularity's share."""
    bought = np.array([facts.popularity[list(items)].mean() for items in heldout.relevant])
    slates = {name: as_matrix(one.slates["all"], K) for name, one in judgements.items()}
    shown = {name: slate_means(one, facts.popularity) for name, one in slates.items()}
    resampled = resampled_means(np.column_stack((bought, *shown.values())))
    covered, biased = {}, {}
    for column, name in enumerate(slates, 1):
        share = coverage(slates[name], len(facts.popularity))
        covered[name] = Compared(Interval(share, float("nan"), float("nan")))
        ratio = mean_of(shown[name]) / mean_of(bought)
        biased[name] = Compared(interval_of(ratio, resampled[:, column] / resampled[:, 0]))
    return {"coverage": covered, "popularity_bias": biased}


def _part(segment: Segment, recall: Mapping[str, Compared]) -> Part:
    return Part(segment.name, segment.about, segment.num_users, segment.num_purchases, recall)


def _strangers(
    period: Period, progress: Progress, champion: Snapshot | None
) -> tuple[tuple[Part, ...], float]:
    """The segment of whom nothing was known: they have no own purchases to be ranked by."""
    snapshot = period.snapshot
    unknown, missing = strangers(
        period.tables, period.recipe.data, snapshot, period.store, period.heldout
    )
    if not unknown.users:
        return (), missing
    segment = Segment("strangers", "nothing was bought before", unknown.relevant)
    popular = snapshot.bundle.array("popular/order")[:K].tolist()
    slates = {POPULARITY: [popular] * len(unknown.users)}
    slates[AISLE] = list(_slates(snapshot, period.store, unknown, progress))
    if champion is not None:
        found = _slates(champion, period.store, unknown, progress)
        slates["champion"] = in_indexes_of(snapshot, champion, found)
    columns = {(segment.name, name): segment.recall(found) for name, found in slates.items()}
    return (_part(segment, _compared(columns)[segment.name]),), missing


def _slates(
    snapshot: Snapshot, store: OnlineStore, heldout: Heldout, progress: Progress
) -> list[list[int]]:
    nobody = replace(heldout, relevant=(frozenset[int](),) * len(heldout.users))
    nobody = replace(nobody, new=nobody.relevant)
    return [
        list(slate) for slate in replay(snapshot, store, nobody, "home", progress).slates["all"]
    ]


def in_indexes_of(
    snapshot: Snapshot, other: Snapshot, slates: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Slates of another bundle in the item indexes of this one, -1 for an item that it lacks."""
    shown = sorted({item for slate in slates for item in slate})
    index = snapshot.catalog.indexes_of([other.catalog.ids[item] for item in shown]).tolist()
    known = dict(zip(shown, index, strict=True))
    return [[known[item] for item in slate] for slate in slates]


def _probabilities(
    period: Period, ranker: Ranker | None, progress: Progress
) -> Probabilities | None:
    """Of a sample of users, over as many days after the cut as the ranker speaks of."""
    config, heldout = period.recipe.ranker, period.heldout
    if ranker is None or config is None:
        return None
    end_time = heldout.cut_time + config.label_days * MICROSECONDS_PER_DAY
    tables, snapshot, store = period.tables, period.snapshot, period.store
    heldout = load_heldout(tables, period.recipe.data, snapshot, store, heldout.cut_time, end_time)
    heldout = sample_users(heldout, MAX_PROBED_USERS, period.recipe.seed)
    reactions = load_reactions(tables, snapshot, heldout.cut_time, end_time)
    rows = examples_of(snapshot, store, heldout, config, progress, reactions)
    return judge_probabilities(ranker, rows.features, rows.lessons.labels, rows.owner)


def _popular_share(
    judgements: Mapping[str, Judgement], heldout: Heldout, facts: ItemFacts
) -> dict[str, Floats]:
    num_items = len(facts.popularity)
    place = np.empty(num_items, np.int64)
    place[np.argsort(-facts.popularity, kind="stable")] = np.arange(num_items)
    found = {"what was bought": [item for items in heldout.relevant for item in items]}
    for name in (AISLE, POPULARITY, "champion"):
        if name in judgements:
            slates = judgements[name].slates["all"]
            found[name] = [item for slate in slates for item in slate if item >= 0]
    edges = np.arange(101) * num_items / 100
    return {
        name: np.searchsorted(np.sort(place[items]), edges) / max(len(items), 1)
        for name, items in found.items()
    }


def _most_shown(judged: Judgement, period: Period) -> tuple[Shown, ...]:
    num_users = len(period.heldout.users)
    shown = Counter(item for slate in judged.slates["all"] for item in slate)
    bought = Counter(item for items in period.heldout.relevant for item in items)
    titles = period.snapshot.bundle.strings("items/title")
    categories = period.snapshot.bundle.strings("items/category")
    ranked = sorted(shown.items(), key=lambda pair: (-pair[1], pair[0]))[:NUM_SHOWN]
    return tuple(
        Shown(titles[item], categories[item], number / num_users, bought[item] / num_users)
        for item, number in ranked
    )

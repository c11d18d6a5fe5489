"""Uplift from a shop's own log: learned, judged on people it has not seen, and served or not.

The log says who could have had which campaign (`offline.coupons.offers`). The features are those
that serving computes, of the coupon of the campaign that fits the user best as far as was known
then; the outcome is whether anything was bought in the days after. Each half of the users is judged
by what was chosen and learned from the other, and the learner serves only if the whole 95% interval
of its Qini is above that of random ranking, and there are people enough. Users are drawn whole,
since one may be in several campaigns. Where no lots were drawn the Qini rests on the same weights
as the learner and cannot tell whether they are right, so what was learned is told, and serves only
if the recipe says so. What serves is asked of nothing beyond the features that the log had.

Not everybody who could be shown an offer is, and some are who could not, as a campaign began before
its hold-out: the effect on who could is divided by how many more of them were (Bloom 1984), as
serving asks what showing does. It is the same for all, since who would have been shown one is not
known of the held out. Nothing is learned of a campaign whose hold-out did not keep much.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.coupon_features import COUPON_FEATURES, best_fitting
from feature_store.coupons import UPLIFT_REPORT, Model
from offline.coupons.choice import choose_learner
from offline.coupons.examples import Goods, Histories, rates_at
from offline.coupons.fitted import Clipped, Predict, Sum
from offline.coupons.observational import BALANCED, weigh
from offline.coupons.qini import interval, rank, resamples
from offline.coupons.trial import Floats, Trial
from offline.dataset import Dataset

UPLIFT_FILE: Final = "coupons/uplift.onnx"
UPLIFT: Final = Model("onnx", COUPON_FEATURES, file=UPLIFT_FILE)
"""How a bundle describes the learner."""

MIN_GROUP: Final = 500
"""People with and people without the offers, at least."""

MIN_OUTCOMES: Final = 50
"""Of each of them those who bought, and those who did not, at least."""

MIN_SHOWN: Final = 0.05
"""Of the people with the offers, at least so many more must have been shown one."""

MAX_HELD_SHOWN: Final = 0.05
"""Of who was held out of a campaign, at most so many may have been shown an offer of it."""

NUM_RESAMPLES: Final = 200


NO_LOTS: Final = "no lots were drawn, and the recipe does not say acts_on_observed."
NOT_ABOVE: Final = "its Qini is not above that of random ranking beyond chance."
NO_LOG: Final = (
    "there is no log of who was shown coupons and who was not; a campaign's hold_out makes one."
)


@dataclass(frozen=True, slots=True)
class UpliftReport:
    """What was found, for a person and for `coupons/uplift.json`.

    `log`: `randomised`, `observational` or `none`. `effect` is by how much more of those bought
    who could have the offers, `shown_share` how many of them were shown one, and
    `held_shown_share` how many of the others. `qini` and its 95% interval are above random, on
    people that what is judged had not seen. `reason` says why the learner serves or not.
    """

    log: str = "none"
    is_served: bool = False
    reason: str = NO_LOG
    learner: str = ""
    num_people: int = 0
    num_treated: int = 0
    effect: float = 0.0
    shown_share: float = 0.0
    held_shown_share: float = 0.0
    qini: float = 0.0
    qini_low: float = 0.0
    qini_high: float = 0.0

    @property
    def shown_more(self) -> float:
        """How many more of those who could have the offers were shown one."""
        return self.shown_share - self.held_shown_share

    def as_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def statement(self) -> str:
        """What a person reads after a training."""
        what = f"Uplift of coupons: {'served' if self.is_served else 'not served'}; {self.reason}"
        if not self.num_people:
            return what
        return (
            f"{what} Log: {self.log}, {self.num_people:,} people and campaigns, "
            f"{self.num_treated:,} with the offers, of whom {self.shown_share:.0%} were shown one, "
            f"and of the others {self.held_shown_share:.0%}; "
            f"{100 * self.effect:+.2f} points more of them bought. Qini above random "
            f"{self.qini:.4f} [{self.qini_low:.4f}, {self.qini_high:.4f}]."
        )


@dataclass(frozen=True, slots=True)
class ShopUplift:
    """The report, and the model where it serves."""

    report: UpliftReport
    model: Predict | None = None


def learn_uplift(
    dataset: Dataset, goods: Goods, seed: int, *, acts_on_observed: bool = False
) -> ShopUplift:
    """What the dataset's offers say of uplift; without a model what served before still serves.

    Of a log without lots the learner serves only if the shop `acts_on_observed` effects.
    """
    log = _as_log(dataset, goods, seed)
    if isinstance(log, UpliftReport):
        return ShopUplift(log)
    report = _judged(log, seed)
    if report.is_served and not (log.trial.is_randomised or acts_on_observed):
        return ShopUplift(replace(report, is_served=False, reason=f"{NO_LOTS} {report.reason}"))
    if not report.is_served:
        return ShopUplift(report)
    choice, features = choose_learner(log.trial, seed=seed), log.trial.features
    showing = Sum(((1.0 / report.shown_more, choice.uplift),))
    model = Clipped(features.min(axis=0), features.max(axis=0), showing)
    return ShopUplift(replace(report, learner=choice.name), model)


@dataclass(frozen=True, slots=True)
class _Log:
    """A trial with the number of each row's user, shape (n,), and what is known of it so far."""

    trial: Trial
    user: NDArray[np.intp]
    report: UpliftReport


def _as_log(dataset: Dataset, goods: Goods, seed: int) -> _Log | UpliftReport:
    """The offers as a trial; a report where they are none to learn from."""
    offers, refused = _kept_apart(dataset)
    if not len(offers):
        return UpliftReport(reason=refused or NO_LOG)
    is_randomised = offers["propensity"].null_count() == 0
    treated, bought = (offers[name].to_numpy() for name in ("treated", "bought"))
    shown, held_shown = _shown_shares(offers, is_randomised=is_randomised)
    report = UpliftReport(
        log="randomised" if is_randomised else "observational",
        num_people=len(offers),
        num_treated=int(treated.sum()),
        shown_share=shown,
        held_shown_share=held_shown,
        reason=refused,
    )
    if lack := _lacking(treated, bought, report.shown_more):
        return replace(report, reason=f"{lack} {refused}".strip())
    features = offer_features(dataset, goods, offers)
    users = np.unique(offers["user"].to_numpy(), return_inverse=True)[1]
    outcome = bought.astype(np.float64)
    if is_randomised:
        trial = Trial(features, treated, outcome, offers["propensity"].to_numpy())
        return _Log(trial, users, replace(report, effect=_effect(trial)))
    try:
        trial, overlap = weigh(features, treated, outcome, seed)
    except ValueError as error:
        return replace(report, reason=f"{error}.")
    report = replace(report, effect=_effect(trial), reason=overlap.statement())
    kept = overlap.kept
    if lack := _lacking(treated[kept], bought[kept], report.shown_more):
        return replace(report, reason=f"{lack} {report.reason}")
    is_balanced = overlap.imbalance_after <= BALANCED
    return _Log(trial, users[kept], report) if is_balanced else report


def _kept_apart(dataset: Dataset) -> tuple[pl.DataFrame, str]:
    """Offers of campaigns whose held-out were not shown them; which are left out, and why."""
    names = dataset.coupons.coupons["campaign"].unique()
    offers = dataset.coupons.offers.filter(pl.col("campaign").is_in(names.implode()))
    held = offers.filter(~pl.col("treated"), pl.col("propensity").is_not_null())
    shown = held.group_by("campaign").agg(pl.col("was_shown").mean())
    mixed = shown.filter(pl.col("was_shown") > MAX_HELD_SHOWN).sort("campaign")
    refused = " ".join(
        f"Of who was held out of campaign {name} {share:.0%} were shown its offers: it is left out."
        for name, share in mixed.iter_rows()
    )
    return offers.filter(~pl.col("campaign").is_in(mixed["campaign"].implode())), refused


def _shown_shares(offers: pl.DataFrame, *, is_randomised: bool) -> tuple[float, float]:
    """How many were shown an offer of who could have them, and of the others.

    All and nobody, where the shop did it itself.
    """
    treated, shown = (offers[name].to_numpy() for name in ("treated", "was_shown"))
    if not is_randomised and not shown[treated].any():
        return 1.0, 0.0
    first, second = (
        float(shown[rows].mean()) if rows.any() else 0.0 for rows in (treated, ~treated)
    )
    return first, second


def _lacking(treated: NDArray[np.bool_], bought: NDArray[np.bool_], shown_more: float) -> str:
    """What there is too little of; "": nothing."""
    for group, words in ((treated, "with the offers"), (~treated, "without them")):
        num, num_bought = int(group.sum()), int((group & bought).sum())
        if num < MIN_GROUP:
            return f"too few people {words}: {num:,}, needed are {MIN_GROUP:,}."
        if min(num_bought, num - num_bought) < MIN_OUTCOMES:
            return f"of {num:,} people {words} {num_bought:,} bought, which tells too little."
    if shown_more < MIN_SHOWN:
        return f"of the people with the offers only {shown_more:.1%} more were shown one."
    return ""


def _effect(trial: Trial) -> float:
    """By how much more of the treated bought, everybody weighted."""
    weights = trial.weights()
    means = [
        np.average(trial.outcome[rows], weights=weights[rows])
        for rows in (trial.treated, ~trial.treated)
    ]
    return float(means[0] - means[1])


def _judged(log: _Log, seed: int) -> UpliftReport:
    """The Qini of what is chosen on one half of the users and judged on the other."""
    rng = np.random.default_rng(seed)
    num_users = int(log.user.max()) + 1
    half = (rng.permutation(num_users) % 2)[log.user]
    rankings = []
    for number in (0, 1):
        held = half == number
        choice = choose_learner(log.trial.rows(~held), seed=seed)
        judged = log.trial.rows(held)
        rankings.append((rank(judged, choice.uplift(judged.features)), log.user[held]))

    def qini(counts: Floats) -> float:
        return float(np.mean([ranking.curve(counts[who]).qini for ranking, who in rankings]))

    drawn = resamples(num_users, seed, NUM_RESAMPLES)
    found = interval(qini(np.ones(num_users)), [qini(counts) for counts in drawn])
    is_served = found.low > 0
    words = "its Qini is above that of random ranking." if is_served else NOT_ABOVE
    return replace(
        log.report,
        is_served=is_served,
        reason=f"{words} {log.report.reason}".strip(),
        qini=found.mean,
        qini_low=found.low,
        qini_high=found.high,
    )


def offer_features(dataset: Dataset, goods: Goods, offers: pl.DataFrame) -> Floats:
    """COUPON_FEATURES of each row of the offers, as of its start, shape (n, features).

    Those of the coupon of the campaign that fits the user best: it is looked for before the lots
    are, so that both groups have theirs alike.
    """
    coupons = dataset.coupons.coupons["campaign"].to_numpy()
    codes = {user: number for number, user in enumerate(dataset.users)}
    histories = Histories(dataset)
    found = np.zeros((len(offers), len(COUPON_FEATURES)))
    rows = offers.with_columns(time=pl.col("start_time").dt.epoch("us")).with_row_index("row")
    for (name,), people in rows.group_by("campaign", maintain_order=True):
        places = np.flatnonzero(coupons == name).astype(np.int32)
        mine = goods.of(places)
        rates = rates_at(dataset, goods, int(people["time"].min()))[places]  # type: ignore[arg-type]
        for row, user, time in people.select("row", "user", "time").iter_rows():
            features = histories.features(codes.get(user, -1), time, mine, rates)
            (best, *_) = best_fitting(features, np.zeros(len(places), np.int32))
            found[row] = features[best]
    return found


def uplift_of(bundle: Bundle) -> str:
    """The statement of a bundle's report; empty for a bundle that has none."""
    if UPLIFT_REPORT not in bundle.manifest.files:
        return ""
    return UpliftReport(**bundle.json(UPLIFT_REPORT)).statement()

"""Hillstrom's randomised e-mail test: uplift learners on the same halves, with intervals.

Each arm against no e-mail, outcome visit. Every learner learns from the same random half and is
judged on the other; the served one is chosen by cross-validated Qini inside the learning half.
Intervals are of the mean over the splits: people are drawn anew, the same ones in all splits and
for both sides of a difference, with the models as they are.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from offline.coupons.choice import CANDIDATES, SHRUNK, best_candidate, crossed_qini, hedged, mixed
from offline.coupons.qini import Curve, Ranking, interval, rank, resamples
from offline.coupons.trial import Floats, Trial, randomised
from offline.coupons.uplift import BASELINE, LEARNERS, fit_all
from offline.metrics import Interval
from offline.progress import Progress

FILE: Final = "hillstrom.parquet"
CONTROL: Final = "No E-Mail"
ARMS: Final = ("Mens E-Mail", "Womens E-Mail")
NUMBERS: Final = ("recency", "history", "mens", "womens", "newbie")
CHOICES: Final = ("history_segment", "zip_code", "channel")
SERVED: Final = "served"
RANDOM: Final = "random"
NUM_RESAMPLES: Final = 200

MEASURES: Final = ("qini", "auuc", "uplift_at_10", "uplift_at_30")


@dataclass
class Arm:
    """The rankings of the judged halves by name, one for each split, and who was judged."""

    judged: list[Any] = field(default_factory=list)
    rankings: dict[str, list[Ranking]] = field(default_factory=dict)
    chosen: Counter[str] = field(default_factory=Counter)


def measure(data: Path, splits: range, progress: Progress) -> Iterator[dict[str, Any]]:
    """A row for each arm and ranker, and the paired differences of served and baseline."""
    frame = pl.read_parquet(data / FILE if data.is_dir() else data)
    for arm in ARMS:
        trial = read_arm(frame, arm)
        judged = judge_splits(trial, arm, splits, progress)
        yield from _rows(arm, len(trial), judged)


def read_arm(frame: pl.DataFrame, arm: str) -> Trial:
    """The arm against no e-mail; the columns as they are, choices as one column for each value."""
    rows = frame.filter(pl.col("segment").is_in([arm, CONTROL]))
    choices = rows.select(CHOICES).to_dummies(drop_first=True)
    features = np.column_stack([rows.select(NUMBERS).to_numpy(), choices.to_numpy()])
    treated = (rows["segment"] == arm).to_numpy()
    return randomised(features.astype(np.float64), treated, rows["visit"].to_numpy().astype(float))


def judge_splits(trial: Trial, arm: str, splits: range, progress: Progress) -> Arm:
    """All rankers on random halves, drawn by the number of each split."""
    result = Arm()
    with progress.task(f"{arm}: splits", len(splits)) as advance:
        for split in splits:
            rng = np.random.default_rng(split)
            order = rng.permutation(len(trial))
            learned, judged = np.array_split(order, 2)
            test = trial.rows(judged)
            scores, name = _scores(trial.rows(learned), test, rng)
            for ranker, score in scores.items():
                result.rankings.setdefault(ranker, []).append(rank(test, score))
            result.judged.append(judged)
            result.chosen[name] += 1
            advance(1)
    return result


def _scores(
    learned: Trial, judged: Trial, rng: np.random.Generator
) -> tuple[dict[str, Floats], str]:
    """The judged people's scores by ranker, and the name of the candidate that serves."""
    fitted = fit_all((*LEARNERS, SHRUNK), learned)
    predicted = {name: model(judged.features) for name, model in fitted.items()}
    scores = {name: mixed(predicted, weights) for name, weights in CANDIDATES.items()}
    chosen = best_candidate(crossed_qini(learned))
    served = mixed(predicted, hedged(CANDIDATES[chosen]))
    return {**scores, SERVED: served, RANDOM: rng.random(len(judged))}, chosen


def _rows(arm: str, num_people: int, judged: Arm) -> Iterator[dict[str, Any]]:
    drawn = resamples(num_people, seed=0, num=NUM_RESAMPLES)
    intervals = {SERVED, BASELINE.name, RANDOM}
    samples = {name: _resampled(judged, name, drawn) for name in intervals}
    means = {name: _means([one.curve() for one in rows]) for name, rows in judged.rankings.items()}
    fixed = {"part": "hillstrom", "arm": arm, "num_splits": len(judged.judged)}
    for name, values in means.items():
        row: dict[str, Any] = {**fixed, "ranker": name}
        for number, measure_name in enumerate(MEASURES):
            row[measure_name] = round(float(values[number]), 5)
            if name in samples:
                found = interval(values[number], samples[name][:, number].tolist())
                row[f"{measure_name}_interval"] = rounded(found)
        yield row
    yield _difference(fixed, means, samples) | {"chosen": dict(judged.chosen)}


def _difference(
    fixed: dict[str, Any], means: dict[str, Floats], samples: dict[str, Floats]
) -> dict[str, Any]:
    """Served minus the two-model logistic baseline, and minus random, paired."""
    row = {**fixed, "ranker": f"{SERVED} minus {BASELINE.name}"}
    gain = means[SERVED] - means[BASELINE.name]
    gains = samples[SERVED] - samples[BASELINE.name]
    for number, name in enumerate(MEASURES):
        found = interval(gain[number], gains[:, number].tolist())
        row |= {name: round(float(gain[number]), 5), f"{name}_interval": rounded(found)}
    over = samples[SERVED][:, 0] - samples[RANDOM][:, 0]
    found = interval(means[SERVED][0] - means[RANDOM][0], over.tolist())
    return row | {
        "qini_minus_random": round(found.mean, 5),
        "qini_minus_random_interval": rounded(found),
    }


def _resampled(judged: Arm, name: str, drawn: list[Floats]) -> Floats:
    """The mean over the splits of all measures for each resample, shape (resamples, measures)."""
    pairs = list(zip(judged.rankings[name], judged.judged, strict=True))
    return np.array(
        [_means([ranking.curve(counts[rows]) for ranking, rows in pairs]) for counts in drawn]
    )


def _means(curves: list[Curve]) -> Floats:
    """The MEASURES of curves, averaged, shape (measures,)."""
    values = [(one.qini, one.auuc, one.uplift_at(0.1), one.uplift_at(0.3)) for one in curves]
    mean: Floats = np.mean(values, axis=0)
    return mean


def rounded(found: Interval) -> list[float]:
    """The ends of an interval for a row of figures."""
    return [round(found.low, 5), round(found.high, 5)]

"""Whether probabilities hold, and what the served network lost against its teacher.

Rows are the candidates of users of the held-out period, which nothing learned from. It knows
features, labels and whose each row is, and no users.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from offline.metrics import NUM_RESAMPLES, Interval, bootstrap, interval_of, ndcg_at_k, recall_at_k
from offline.models.ranker import Matrix, Ranker, teacher_logits

Floats = NDArray[np.float64]

NUM_BINS: Final = 15
MAX_ECE: Final = 0.02
"""What the expected calibration error of a served ranker should not exceed."""
K: Final = 20
NUM_TIMED: Final = 15


@dataclass(frozen=True, slots=True)
class Curve:
    """Per bin of equal size: mean probability, share bought; `error` is their mean distance."""

    predicted: Floats
    observed: Floats
    error: Interval


@dataclass(frozen=True, slots=True)
class Distillation:
    """The boosted teacher and the network that is served, on the same rows.

    `recall` and `ndcg` at 20 order a user's candidates; `recall_lost` and `ndcg_lost` are teacher
    minus network, paired by user. Times are microseconds for a request of `num_candidates`.
    """

    auc_teacher: float
    auc_network: float
    recall_teacher: float
    recall_network: float
    recall_lost: Interval
    ndcg_lost: Interval
    teacher_us: float
    network_us: float
    num_candidates: int


@dataclass(frozen=True, slots=True)
class Probabilities:
    """What the ranker's probabilities are worth on rows it has not learned from."""

    num_users: int
    num_rows: int
    curve: Curve
    distillation: Distillation

    def metrics(self) -> dict[str, float]:
        """The figures by name, as they are logged."""
        one = self.distillation
        return {
            "ece": self.curve.error.mean,
            "distillation_recall_at_20_lost": one.recall_lost.mean,
            "distillation_ndcg_at_20_lost": one.ndcg_lost.mean,
            "distillation_auc_lost": one.auc_teacher - one.auc_network,
            "distillation_teacher_us": one.teacher_us,
            "distillation_network_us": one.network_us,
        }


def judge_probabilities(
    ranker: Ranker, features: Matrix, labels: Matrix, owner: NDArray[np.int32]
) -> Probabilities | None:
    """Judge on rows (n, features), labels and owners (n,); None when they are all of one kind."""
    if labels.min(initial=1.0) == labels.max(initial=0.0):
        return None
    session = open_network(ranker.onnx)
    probability: Floats = session.run(None, {"features": features})[0].astype(np.float64)
    return Probabilities(
        num_users=len(np.unique(owner)),
        num_rows=len(labels),
        curve=calibration_curve(probability, labels, owner),
        distillation=_distillation(ranker, session, features, labels, owner, probability),
    )


def open_network(onnx: bytes) -> onnxruntime.InferenceSession:
    """The network as it is served: one thread, no spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def calibration_curve(probability: Floats, labels: Matrix, owner: NDArray[np.int32]) -> Curve:
    """Expected calibration error over bins of equal size (Naeini et al. 2015), by user resampled.

    The bins stay as they are in all resamples. Resampling adds noise to each bin, so that the
    interval lies rather above the error than around it.
    """
    order = np.argsort(probability, kind="stable")
    num_bins = min(NUM_BINS, len(order))
    bins = np.empty(len(order), np.int64)
    bins[order] = np.arange(len(order)) * num_bins // len(order)
    users, row = np.unique(owner, return_inverse=True)
    place, shape = row * num_bins + bins, (len(users), num_bins)
    size = len(users) * num_bins
    gap = np.bincount(place, probability - labels, minlength=size).reshape(shape)
    rows = np.bincount(place, minlength=size).reshape(shape).astype(np.float64)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), NUM_RESAMPLES)
    resampled = np.abs(drawn @ gap).sum(axis=1) / (drawn @ rows).sum(axis=1)
    error = float(np.abs(gap.sum(axis=0)).sum() / len(labels))
    number = np.bincount(bins, minlength=num_bins)
    predicted = np.bincount(bins, probability, minlength=num_bins) / number
    observed = np.bincount(bins, labels, minlength=num_bins) / number
    return Curve(predicted, observed, interval_of(error, resampled))


def _distillation(
    ranker: Ranker,
    session: onnxruntime.InferenceSession,
    features: Matrix,
    labels: Matrix,
    owner: NDArray[np.int32],
    probability: Floats,
) -> Distillation:
    taught = teacher_logits(ranker.teacher, features)
    teacher, network = _by_user(taught, labels, owner), _by_user(probability, labels, owner)
    sizes = np.bincount(owner)
    typical = int(np.median(sizes[sizes > 0]))
    rows = features[:typical]
    return Distillation(
        auc_teacher=float(roc_auc_score(labels, taught)),
        auc_network=float(roc_auc_score(labels, probability)),
        recall_teacher=float(teacher[:, 0].mean()),
        recall_network=float(network[:, 0].mean()),
        recall_lost=bootstrap(teacher[:, 0] - network[:, 0]),
        ndcg_lost=bootstrap(teacher[:, 1] - network[:, 1]),
        teacher_us=_fastest_us(lambda: ranker.teacher.predict(rows, raw_score=True, num_threads=1)),
        network_us=_fastest_us(lambda: session.run(None, {"features": rows})),
        num_candidates=typical,
    )


def _by_user(score: NDArray[np.floating], labels: Matrix, owner: NDArray[np.int32]) -> Floats:
    """Recall and NDCG at K of each user's rows in the order of their scores, shape (users, 2).

    Only of users with something to find.
    """
    order = np.lexsort((-score, owner))
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    measured = []
    for rows in np.split(order, starts[1:]):
        relevant = frozenset(rows[labels[rows] > 0].tolist())
        if relevant:
            ranked = rows[:K].tolist()
            measured.append((recall_at_k(ranked, relevant, K), ndcg_at_k(ranked, relevant, K)))
    return np.array(measured, np.float64).reshape(-1, 2)


def _fastest_us(work: Callable[[], object]) -> float:
    """Microseconds of the fastest of some runs: the least that other processes disturb."""
    taken = []
    for _ in range(NUM_TIMED):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return 1e6 * min(taken)

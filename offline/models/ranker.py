"""The ranker: a boosted teacher, the small network that is served, and its calibration.

Trees learn the order best but cost a millisecond a request; a network distilled from them costs
20 µs in ONNX Runtime. It knows rows of features and labels: no users, items or files.

Formulas: the teacher by binary log loss (LightGBM); the network by cross-entropy against a mix
of the teacher's probability and the label (Hinton et al. 2015); calibration by Platt's scaling
of the logit, which keeps the order.
"""

import io
import warnings
from dataclasses import dataclass
from itertools import pairwise

import lightgbm as lgb
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn

from offline.progress import Progress
from offline.recipe import RankerConfig

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probability = sigmoid(slope * logit + intercept)."""

    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Lessons:
    """What rows teach, each of shape (n,).

    `labels`: bought, and not refused; 1, 0, or NaN where that says nothing of how likely purchases
    are. `targets`, 0 or 1, are what to rank high, with how much each row weighs.
    """

    labels: Matrix
    targets: Matrix
    weights: Matrix

    @staticmethod
    def of_purchases(labels: Matrix) -> "Lessons":
        """Purchases alone, each row as good as another."""
        return Lessons(labels, labels, np.ones(len(labels), np.float32))


@dataclass(frozen=True, slots=True)
class Ranker:
    """The fitted ranker: `onnx` maps features (n, features) to calibrated probabilities (n,)."""

    onnx: bytes
    teacher: lgb.Booster


def fit_ranker(
    features: Matrix, lessons: Lessons, config: RankerConfig, seed: int, progress: Progress
) -> Ranker:
    """Fit on rows (n, features).

    Only `config.negative_share` of the plain negatives are learned from; what a user said of an
    item always is. The calibration sees all purchases, and nothing but purchases.
    """
    targets, is_said = lessons.targets, lessons.weights != 1.0
    kept = keep_negatives(targets, config.negative_share, seed) | is_said
    weights = lessons.weights[kept] if is_said.any() else None
    teacher = fit_teacher(features[kept], targets[kept], config, seed, progress, weights)
    soft = _sigmoid(teacher_logits(teacher, features[kept]))
    mixed = config.teacher_weight * soft + (1 - config.teacher_weight) * targets[kept]
    network = fit_network(features[kept], mixed.astype(np.float32), config, seed, progress, weights)
    known = ~np.isnan(lessons.labels)
    calibration = fit_calibration(network_logits(network, features[known]), lessons.labels[known])
    return Ranker(export_onnx(network, calibration), teacher)


def keep_negatives(labels: Matrix, share: float, seed: int) -> NDArray[np.bool_]:
    """All positives and a random `share` of the negatives, shape (n,)."""
    chance = np.random.default_rng(seed).random(len(labels))
    return (labels > 0) | (chance < share)


def fit_teacher(
    features: Matrix,
    labels: Matrix,
    config: RankerConfig,
    seed: int,
    progress: Progress,
    weights: Matrix | None = None,
) -> lgb.Booster:
    """Boosted trees by binary log loss; `weights`, shape (n,), None for all alike."""
    parameters = {
        "objective": "binary",
        "num_leaves": config.num_leaves,
        "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.min_rows_in_leaf,
        "feature_fraction": config.feature_share,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "max_bin": 127,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "verbose": -1,
    }
    with progress.task("Ranker: teacher", config.num_trees) as advance:
        return lgb.train(
            parameters,
            lgb.Dataset(features, labels, weight=weights),
            config.num_trees,
            callbacks=[lambda _: advance(1)],
        )


def teacher_logits(teacher: lgb.Booster, features: Matrix) -> Matrix:
    """Raw scores of the teacher, shape (n,)."""
    return np.asarray(teacher.predict(features, raw_score=True), np.float32)


class Network(nn.Module):
    """Raw features (n, features) to logits (n,); the standardisation is inside."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: Matrix, scale: Matrix, hidden: tuple[int, ...]) -> None:
        """`mean` and `scale` of each feature, shape (features,); the width of each layer."""
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(scale))
        widths = (len(mean), *hidden)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits, shape (n,)."""
        standard = ((features - self.mean) / self.scale).clamp(-5.0, 5.0)
        logits: torch.Tensor = self.layers(standard).squeeze(-1)
        return logits


class _Served(nn.Module):
    """The network with its calibration: what the bundle holds."""

    def __init__(self, network: Network, calibration: Calibration) -> None:
        super().__init__()
        self.network, self.calibration = network, calibration

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = self.calibration.slope * self.network(features) + self.calibration.intercept
        return torch.sigmoid(logits)


def fit_network(
    features: Matrix,
    target: Matrix,
    config: RankerConfig,
    seed: int,
    progress: Progress,
    weights: Matrix | None = None,
) -> Network:
    """Learn target probabilities, shape (n,), by cross-entropy; `weights` None for all alike."""
    torch.manual_seed(seed)
    network = Network(features.mean(axis=0), features.std(axis=0) + 1e-3, config.hidden)
    inputs, targets = torch.from_numpy(features), torch.from_numpy(target)
    weight = None if weights is None else torch.from_numpy(weights)
    optimiser = torch.optim.AdamW(
        network.parameters(), config.network_learning_rate, weight_decay=1e-4
    )
    num_steps = config.num_epochs * -(-len(features) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.network_learning_rate, total_steps=num_steps
    )
    with progress.task("Ranker: network", num_steps) as advance:
        for _ in range(config.num_epochs):
            for rows in torch.split(torch.randperm(len(features)), config.batch_size):
                loss = nn.functional.binary_cross_entropy_with_logits(
                    network(inputs[rows]),
                    targets[rows],
                    None if weight is None else weight[rows],
                )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                advance(1)
    return network.eval()


@torch.no_grad()
def network_logits(network: Network, features: Matrix) -> Matrix:
    """Logits of the network, shape (n,)."""
    logits: Matrix = network(torch.from_numpy(features)).numpy()
    return logits


def fit_calibration(logits: Matrix, labels: Matrix) -> Calibration:
    """Platt scaling by maximum likelihood, on rows with their true share of positives."""

    def loss(parameters: Floats) -> tuple[float, Floats]:
        value = parameters[0] * logits + parameters[1]
        error = _sigmoid(value) - labels
        likelihood = np.logaddexp(0.0, value) - labels * value
        return float(likelihood.mean()), np.array([np.mean(error * logits), np.mean(error)])

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
    return Calibration(float(slope), float(intercept))


def export_onnx(network: Network, calibration: Calibration) -> bytes:
    """The served network: input `features` (n, features) float32, output `probability` (n,)."""
    buffer = io.BytesIO()
    example = torch.zeros(2, len(network.mean))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter without onnxscript
        torch.onnx.export(
            _Served(network, calibration),
            (example,),
            buffer,  # type: ignore[arg-type]
            input_names=["features"],
            output_names=["probability"],
            dynamic_axes={"features": {0: "rows"}, "probability": {0: "rows"}},
            dynamo=False,
        )
    return buffer.getvalue()


def expected_calibration_error(probability: Floats, labels: Matrix, num_bins: int = 15) -> float:
    """Mean |predicted - observed| over bins of equal size (Naeini et al. 2015)."""
    order = np.argsort(probability, kind="stable")
    bins = [rows for rows in np.array_split(order, num_bins) if len(rows)]
    gaps = [abs(probability[rows].mean() - labels[rows].mean()) * len(rows) for rows in bins]
    return float(np.sum(gaps) / len(probability))


def _sigmoid(logits: NDArray[np.floating]) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    return result

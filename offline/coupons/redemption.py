"""The probability that a coupon which is shown is redeemed: small boosted trees, as ONNX.

The features are those that serving computes. Of what was not redeemed a share is learned from and
weighted back, so that probabilities are those of all pairs.
"""

from typing import Final

import lightgbm as lgb
import numpy as np

from feature_store.coupon_features import COUPON_FEATURES
from feature_store.coupons import Model
from offline.coupons.examples import Examples

MIN_REDEMPTIONS: Final = 50
"""With fewer to learn from the base rates serve."""

NEGATIVE_SHARE: Final = 0.3
NUM_TREES: Final = 80

REDEMPTION_FILE: Final = "coupons/redemption.onnx"
REDEMPTION: Final = Model("onnx", COUPON_FEATURES, file=REDEMPTION_FILE)
"""How a bundle describes the trees."""


def fit_redemption(examples: Examples, seed: int) -> lgb.Booster | None:
    """The trees: COUPON_FEATURES (n, features) to probabilities (n,).

    None when there is too little to learn from.
    """
    if examples.labels.sum() < MIN_REDEMPTIONS:
        return None
    positive = examples.labels > 0
    kept = positive | (np.random.default_rng(seed).random(len(examples)) < NEGATIVE_SHARE)
    weights = np.where(positive[kept], 1.0, 1.0 / NEGATIVE_SHARE)
    parameters = {
        "objective": "binary",
        "num_leaves": 7,
        "learning_rate": 0.05,
        "min_data_in_leaf": 200,
        "lambda_l2": 5.0,
        "max_bin": 127,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbose": -1,
    }
    rows = lgb.Dataset(examples.features[kept], examples.labels[kept], weight=weights)
    return lgb.train(parameters, rows, NUM_TREES)

"""What showing a coupon is worth: the chance of a redemption, what it adds, what it costs.

    worth = uplift x margin - redemption x cost - redemption x cost x shadow price
            - redemption x price of the cap + how far it brings a floor nearer x price of that

`uplift` is by how much showing it raises the probability of a basket, `margin` what such a basket
earns, `cost` what a redemption gives away. The shadow price is what a unit of the budget, the
campaign's and the coupon's own, could earn elsewhere. A floor is a share of a coupon's offers or
money for a segment: an offer to one of the segment brings it nearer by 1 - share, one to others
takes it further by the share.

Where nothing was learned, both probabilities are the campaign's base rate: every redemption is then
taken for a basket that would not have been, which flatters coupons and ranks those of a campaign by
their cost alone; of the same worth, the user's own goods come first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.coupon_features import (
    COUPON_FEATURES,
    OWN_GOODS,
    best_fitting,
    coupon_features,
    uplift_by_coupon,
)
from feature_store.coupons import (
    MICROS,
    MODELS_FILE,
    Campaign,
    Coupon,
    Learned,
    Model,
    coupon_account,
    decode_learned,
)
from feature_store.ranking import History
from online.coupons.audience import Traits
from online.coupons.columns import Coupons, Micros
from online.coupons.usual import NOTHING_USUAL, Usual
from online.errors import SnapshotError
from online.types import Mask

Floats = NDArray[np.float64]
Predict = Callable[[NDArray[np.float32]], Floats]


@dataclass(frozen=True, slots=True)
class Held:
    """Prices of caps and floors, by coupon: micros for a redemption, and for an offer.

    A floor of money has its price for a micro.
    """

    cap: Floats
    floor: Floats


@dataclass(frozen=True, slots=True)
class Models:
    """What was learned, ready to be asked; None: base rates.

    `prices` are of what has money, in the order of `Coupons.budgets`. `held` None: no cap and no
    floor has a price.
    """

    redemption: Predict | None
    uplift: Predict | None
    prices: Floats
    usual: Usual = NOTHING_USUAL
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Estimates:
    """By coupon: calibrated probabilities, and how much of its goods the user buys."""

    redemption: Floats
    uplift: Floats
    own_goods: Floats


def open_models(bundle: Bundle, coupons: Coupons) -> Models:
    """The models of an opened bundle. Raises SnapshotError for one that this code cannot read."""
    learned = decode_learned(bundle.json(MODELS_FILE))
    prices = [learned.shadow_prices.get(account_of(one), 0.0) for one in coupons.budgets]
    return Models(
        _predictor(bundle, learned.redemption),
        _predictor(bundle, learned.uplift),
        np.array(prices, np.float64),
        Usual(learned.demand, learned.visits),
        _held(learned, coupons),
    )


def account_of(one: Campaign | Coupon) -> str:
    """What training calls what has money."""
    return one.campaign if isinstance(one, Campaign) else coupon_account(one.item)


def _held(learned: Learned, coupons: Coupons) -> Held | None:
    if not (learned.cap_prices or learned.floor_prices):
        return None
    items = [one.item for one in coupons.coupons]
    cap, floor = (
        np.array([prices.get(item, 0.0) for item in items])
        for prices in (learned.cap_prices, learned.floor_prices)
    )
    return Held(MICROS * cap, np.where(coupons.limits.is_floor_of_money, floor, MICROS * floor))


def base_rates_only(coupons: Coupons) -> Models:
    """Where nothing was learned."""
    return Models(None, None, np.zeros(len(coupons.budgets)))


def estimate(
    coupons: Coupons, models: Models, history: History, num_baskets: float, asked: Mask
) -> Estimates:
    """What the models say of a user with this history; 0 for coupons that are not `asked` about."""
    named, lines = coupons.good_for(history.items)
    features = coupon_features(
        history,
        num_baskets,
        named,
        lines,
        np.diff(coupons.goods_starts),
        coupons.is_for_all,
        coupons.base_rate,
    )
    redemption, uplift = np.zeros((2, len(coupons)))
    redemption[asked] = (
        coupons.base_rate[asked]
        if models.redemption is None
        else models.redemption(features[asked])
    )
    if models.uplift is None:
        uplift[asked] = redemption[asked]
    else:
        best = best_fitting(features[asked], coupons.campaign[asked])
        uplift[asked] = uplift_by_coupon(models.uplift(features[asked]), redemption[asked], best)
    return Estimates(redemption, uplift, features[:, OWN_GOODS].astype(np.float64))


def worth(coupons: Coupons, estimates: Estimates, cost: Micros, prices: Floats) -> Floats:
    """What showing each coupon is worth, in micros; `prices` as in `Models`."""
    spent = estimates.redemption * cost
    gained: Floats = estimates.uplift * coupons.margin
    return gained - spent * (1.0 + money_prices(coupons, prices))


def money_prices(coupons: Coupons, prices: Floats) -> Floats:
    """What a unit of money given by each coupon costs beyond itself, shape (coupons,)."""
    of_money = prices[coupons.campaign]
    of_money[coupons.limits.budgeted] += prices[len(coupons.campaigns) :]
    return of_money


def kept_for(
    coupons: Coupons, held: Held | None, estimates: Estimates, cost: Micros, traits: Traits
) -> Floats | float:
    """What caps and floors add to the worth of showing each coupon to who has these traits."""
    if held is None:
        return 0.0
    limits = coupons.limits
    is_member = coupons.audiences.holding(traits)[limits.floor] & (limits.floor > 0)
    unit = np.where(limits.is_floor_of_money, estimates.redemption * cost, 1.0)
    nearer = (is_member - limits.floor_share) * unit
    added: Floats = held.floor * nearer - held.cap * estimates.redemption
    return added


def _predictor(bundle: Bundle, model: Model | None) -> Predict | None:
    if model is None:
        return None
    unknown = [name for name in model.features if name not in COUPON_FEATURES]
    if unknown:
        raise SnapshotError(f"a coupon model needs features that this code lacks: {unknown}")
    columns = [COUPON_FEATURES.index(name) for name in model.features]
    if model.kind == "linear":
        return _linear(columns, np.array(model.weights, np.float64), model.intercept)
    if model.kind == "onnx":
        return _network(columns, bundle, model.file)
    raise SnapshotError(
        f"a coupon model is of the kind {model.kind!r}; this code reads linear, onnx"
    )


def _linear(columns: list[int], weights: Floats, intercept: float) -> Predict:
    def predict(features: NDArray[np.float32]) -> Floats:
        return 1.0 / (1.0 + np.exp(-(features[:, columns] @ weights + intercept)))

    return predict


def _network(columns: list[int], bundle: Bundle, file: str) -> Predict:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(bundle.path(file)), options)
    (name,) = (one.name for one in session.get_inputs())

    def predict(features: NDArray[np.float32]) -> Floats:
        (output,) = session.run(None, {name: np.ascontiguousarray(features[:, columns])})
        return np.asarray(output, np.float64).reshape(-1)

    return predict

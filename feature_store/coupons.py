"""What a coupon is, as a bundle keeps it: written by training, read by the server.

Money is integer micros of the shop's currency (1,000,000 is one unit), so that sums are exact.
It knows the layout of the section, and neither rules nor models.

    coupons/coupons.json    campaigns and coupons, `Campaign` and `Coupon` below
    coupons/goods.npy       indexes of the products that coupons are good for, end to end
    coupons/goods_end.npy   where those of each coupon end
    coupons/base_rate.npy   how often one coupon is redeemed by one of who may have it
    coupons/margin.npy      micros that a basket with a redemption earns, before the coupon's cost
    coupons/models.json     what was learned, `Learned` below; without it the base rates serve
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

MICROS: Final = 1_000_000
MAIL: Final = "mail"
"""The channel that needs the user's consent to mails."""

CENT: Final = MICROS // 100
HOURS_OF_WEEK: Final = 168

COUPONS_FILE: Final = "coupons/coupons.json"
MODELS_FILE: Final = "coupons/models.json"
GOODS: Final = "coupons/goods"
GOODS_END: Final = "coupons/goods_end"
BASE_RATE: Final = "coupons/base_rate"
MARGIN: Final = "coupons/margin"


class DiscountKind(StrEnum):
    """What a coupon gives. The order is the storage code, see `feature_store.schema.DISCOUNTS`."""

    PERCENT = "percent"
    AMOUNT = "amount"
    GIFT = "gift"
    FREE_DELIVERY = "free_delivery"


@dataclass(frozen=True, slots=True)
class Discount:
    """What a coupon gives; `basis_points` are hundredths of a percent, money is micros.

    `maximum` None: unlimited for a share of the price, the amount for an amount.
    """

    kind: DiscountKind
    basis_points: int = 0
    amount: int = 0
    gift_item: str = ""
    maximum: int | None = None

    @property
    def face_value(self) -> int | None:
        """The most that it can cost, which a claim reserves; None: it depends on the basket."""
        if self.kind is DiscountKind.AMOUNT:
            return self.amount if self.maximum is None else min(self.amount, self.maximum)
        return self.maximum


@dataclass(frozen=True, slots=True)
class Campaign:
    """What coupons belong to; `budget` in micros, None: unlimited. Instants: microseconds UTC."""

    campaign: str
    kind: str = ""
    title: str = ""
    start_time: int | None = None
    end_time: int | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Coupon:
    """One offer; an empty tuple or text, a 0 and a None all mean: no such limit."""

    item: str
    campaign: str
    title: str
    discount: Discount
    terms: str = ""
    minimum_basket: int = 0
    is_for_all_goods: bool = True
    start_time: int | None = None
    end_time: int | None = None
    audience: str = ""
    max_claims_per_user: int = 0
    max_claims: int = 0
    budget: int | None = None
    stacking_group: str = ""
    exclusive: bool = False
    regions: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A model as data. `kind` says how to read it, see `online.coupons.valuing`.

    `linear`: `weights` by feature name and `intercept`, through the logistic function.
    `onnx`: `file` is in the bundle, with one output between 0 and 1 for each row.
    `features` names the columns, in order.
    """

    kind: str
    features: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    intercept: float = 0.0
    file: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a campaign's users would use of its budget: `micros` at each of some rising `prices`."""

    prices: tuple[float, ...]
    micros: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of coupons; None: nothing, and the base rates stand for it.

    `redemption`: the calibrated probability that a coupon that is shown is redeemed. `uplift`: by
    how much showing it raises the probability of a basket. `shadow_prices`: by campaign, what
    a unit of its budget is worth beyond itself when serving starts. `demand`: by campaign, where it
    is known. `visits`: shares by hour of the week from Monday 0:00 UTC; empty: not known.
    """

    redemption: Model | None = None
    uplift: Model | None = None
    shadow_prices: Mapping[str, float] = field(default_factory=dict)
    demand: Mapping[str, Demand] = field(default_factory=dict)
    visits: tuple[float, ...] = ()


NOTHING_LEARNED: Final = Learned()


def to_micros(amount: float) -> int:
    """An amount of money in units of the currency, exact to a millionth."""
    return round(amount * MICROS)


def coupon_account(item: str) -> str:
    """The ledger's account of a coupon."""
    return f"coupon/{item}"


def campaign_account(campaign: str) -> str:
    """The ledger's account of a campaign."""
    return f"campaign/{campaign}"


def own_account(item: str, name: str) -> str:
    """The ledger's account of a coupon of one user or visit, `name` being what its claims have."""
    return f"{name}/{item}"


def expectation_name(mailing: str, campaign: str) -> str:
    """What the ledger calls the money that a mailing's claims of a campaign are expected to take.

    `mailing` is what claims from its mails carry as `context.campaign`.
    """
    return f"mailing/{mailing}/{campaign}"


def encode_coupons(campaigns: Sequence[Campaign], coupons: Sequence[Coupon]) -> dict[str, Any]:
    """The JSON of `COUPONS_FILE`; what is at its default is left out."""
    return {
        "campaigns": [_plain(one) for one in campaigns],
        "coupons": [{**_plain(one), "discount": _plain(one.discount)} for one in coupons],
    }


def decode_coupons(content: Mapping[str, Any]) -> tuple[list[Campaign], list[Coupon]]:
    """What `encode_coupons` wrote."""
    campaigns = [Campaign(**row) for row in content["campaigns"]]
    return campaigns, [_coupon(row) for row in content["coupons"]]


def encode_learned(learned: Learned) -> dict[str, Any]:
    """The JSON of `MODELS_FILE`."""
    return asdict(learned)


def decode_learned(content: Mapping[str, Any]) -> Learned:
    """What `encode_learned` wrote."""
    models = {name: _model(content[name]) for name in ("redemption", "uplift")}
    demand = {
        campaign: Demand(tuple(row["prices"]), tuple(row["micros"]))
        for campaign, row in content.get("demand", {}).items()  # bundles of before have none
    }
    return Learned(
        shadow_prices=content["shadow_prices"],
        demand=demand,
        visits=tuple(content.get("visits", ())),
        **models,
    )


def _model(row: Mapping[str, Any] | None) -> Model | None:
    if row is None:
        return None
    return Model(**{**row, **{name: tuple(row[name]) for name in ("features", "weights")}})


def _coupon(row: Mapping[str, Any]) -> Coupon:
    given = {**row["discount"], "kind": DiscountKind(row["discount"]["kind"])}
    lists = {name: tuple(row.get(name, ())) for name in ("regions", "channels")}
    return Coupon(**{**row, **lists, "discount": Discount(**given)})


def _plain(one: Campaign | Coupon | Discount) -> dict[str, Any]:
    """The fields that are not at their default."""
    values = {one_field.name: getattr(one, one_field.name) for one_field in fields(one)}
    defaults = {one_field.name: one_field.default for one_field in fields(one)}
    return {name: value for name, value in values.items() if value != defaults[name]}

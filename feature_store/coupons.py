"""What a coupon is, as a bundle keeps it: written by training, read by the server.

Money is integer micros of the shop's currency (1,000,000 is one unit), so that sums are exact.
It knows the layout of the section, and neither rules nor models.

    coupons/coupons.json    campaigns and coupons, `Campaign` and `Coupon` below
    coupons/goods.npy       indexes of the products that coupons are good for, end to end
    coupons/goods_end.npy   where those of each coupon end
    coupons/base_rate.npy   how often one coupon is redeemed by one of who may have it
    coupons/margin.npy      micros that a basket with a redemption earns, before the coupon's cost
    coupons/models.json     what was learned, `Learned` below; without it the base rates serve
    coupons/uplift.json     where uplift was looked for: from which log, and why it serves or not
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from feature_store.ids import hash64

MICROS: Final = 1_000_000
MAIL: Final = "mail"
"""The channel that needs the user's consent to mails."""

CENT: Final = MICROS // 100
HOURS_OF_WEEK: Final = 168

COUPONS_FILE: Final = "coupons/coupons.json"
MODELS_FILE: Final = "coupons/models.json"
USER_NAMES: Final = "user/"
"""What claims of a user are under begins so, and the hexadecimal pseudonym follows."""

UPLIFT_REPORT: Final = "coupons/uplift.json"
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


class FloorOf(StrEnum):
    """What a floor is a share of, see `feature_store.schema.FLOORS`."""

    OFFERS = "offers"
    MONEY = "money"


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
    """What coupons belong to; `budget` in micros, None: unlimited. Instants: microseconds UTC.

    `hold_out` is the share of users who get none of its coupons, see `is_held_out`.
    """

    campaign: str
    kind: str = ""
    title: str = ""
    start_time: int | None = None
    end_time: int | None = None
    budget: int | None = None
    hold_out: float = 0.0


@dataclass(frozen=True, slots=True)
class Coupon:
    """One offer; an empty tuple or text, a 0 and a None all mean: no such limit.

    Of its offers, or of its money, at least `floor_share` is for users of the `floor_audience`.
    """

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
    floor_audience: str = ""
    floor_share: float = 0.0
    floor_of: str = FloorOf.OFFERS


@dataclass(frozen=True, slots=True)
class Model:
    """A model as data. `kind` says how to read it, see `online.coupons.valuing`.

    `linear`: `weights` by feature name and `intercept`, through the logistic function.
    `onnx`: `file` is in the bundle, with one output for each row: a probability, or a difference.
    `features` names the columns, in order.
    """

    kind: str
    features: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    intercept: float = 0.0
    file: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """What users would use of a budget: `micros` at each of some rising `prices`."""

    prices: tuple[float, ...]
    micros: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of coupons; None: nothing, and the base rates stand for it.

    `redemption`: the calibrated probability that a coupon that is shown is redeemed. `uplift`: by
    how much showing it raises the probability of a basket. `shadow_prices`: by campaign, and by
    `coupon_account` of a coupon with a budget of its own, what a unit of the budget is worth beyond
    itself when serving starts. `demand`: by the same, where it is known. `cap_prices`: by coupon,
    what one of its limited number of claims is worth, in money. `floor_prices`: by coupon, what it
    is worth to have an offer, or a unit of money, nearer to its floor. `visits`: shares by hour of
    the week from Monday 0:00 UTC; empty: not known.
    """

    redemption: Model | None = None
    uplift: Model | None = None
    shadow_prices: Mapping[str, float] = field(default_factory=dict)
    demand: Mapping[str, Demand] = field(default_factory=dict)
    visits: tuple[float, ...] = ()
    cap_prices: Mapping[str, float] = field(default_factory=dict)
    floor_prices: Mapping[str, float] = field(default_factory=dict)


NOTHING_LEARNED: Final = Learned()


def is_held_out(name: str, campaign: str, share: float) -> bool:
    """Whether lots drew a user to be without a campaign's offers; `name` is what claims have.

    The same wherever and whenever it is asked, so that nobody needs to note it.
    """
    return bool(name) and hash64(f"hold_out/{campaign}/{name}") < share * 2.0**64


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

    `mailing` is what claims from its mails carry as `context.campaign`. In the place of a campaign
    there may be the account of a coupon that has money of its own.
    """
    return f"mailing/{mailing}/{campaign}"


def expectation_names(mailing: str, coupon: Coupon) -> tuple[str, ...]:
    """What a claim of a coupon from a mail uses first: the campaign's, and the coupon's own."""
    own = coupon_account(coupon.item)
    return expectation_name(mailing, coupon.campaign), expectation_name(mailing, own)


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
        cap_prices=content.get("cap_prices", {}),
        floor_prices=content.get("floor_prices", {}),
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

"""What each rule compared for one coupon, in words that can be put into any language.

For ExplainCoupon: a name and parameters for each rule, met or not. It decides nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from feature_store.coupons import Coupon
from online.coupons.basket import as_text
from online.coupons.columns import UNLIMITED, Coupons
from online.coupons.eligibility import Judged, Verdicts

Parameters = dict[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says of one coupon."""

    rule: str
    met: bool
    parameters: Parameters


def findings(verdicts: Verdicts, place: int) -> list[Finding]:
    """One finding for each rule that was looked at, in their order."""
    return [
        Finding(rule, bool(mask[place]), PARAMETERS[rule](verdicts.judged, place))
        for rule, mask in verdicts.masks.items()
    ]


def barred_by(coupons: Coupons, place: int, held: str) -> Finding:
    """The finding where the ledger met a coupon that does not go together with this one."""
    group, other = coupons.coupons[place].stacking_group, coupons.coupons[coupons.index[held]]
    is_group = group != "" and group == other.stacking_group
    rule = "stacking_group" if is_group else "exclusive"
    return Finding(rule, met=False, parameters={"group": group or "-", "held": held})


def _times(judged: Judged, place: int) -> Parameters:
    coupon = judged.coupons.coupons[place]
    times = {"now": judged.situation.time, "start": coupon.start_time, "end": coupon.end_time}
    return {name: _as_time(time) for name, time in times.items() if time is not None}


def _as_time(time: int) -> str:
    return datetime.fromtimestamp(time / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _region(judged: Judged, place: int) -> Parameters:
    regions = ", ".join(judged.coupons.coupons[place].regions)
    return {"regions": regions or "-", "region": judged.situation.region or "-"}


def _channel(judged: Judged, place: int) -> Parameters:
    channels = ", ".join(judged.coupons.coupons[place].channels)
    return {"channels": channels or "-", "channel": judged.situation.channel or "-"}


def _audience(judged: Judged, place: int) -> Parameters:
    return {"audience": judged.coupons.coupons[place].audience or "-"}


def _products(judged: Judged, place: int) -> Parameters:
    starts = judged.coupons.goods_starts
    count = "-" if judged.coupons.is_for_all[place] else str(starts[place + 1] - starts[place])
    return {"products": count, "covered": as_text(int(judged.covered[place]))}


def _per_user(judged: Judged, place: int) -> Parameters:
    used = judged.situation.holdings.claims[place]
    return {"limit": _limit(judged.coupons.max_per_user[place]), "claimed": str(used)}


def _claims(judged: Judged, place: int) -> Parameters:
    used = judged.situation.usage.claims[place]
    return {"limit": _limit(judged.coupons.max_claims[place]), "claimed": str(used)}


def _budget(judged: Judged, place: int) -> Parameters:
    """Budgets are the shop's secret: only what this one would take is told."""
    return {"face_value": as_text(max(0, int(judged.face_value[place])))}


def _stacking(judged: Judged, place: int) -> Parameters:
    """The others of the group that are held."""
    group = judged.coupons.coupons[place].stacking_group
    held = [one for one in _others_held(judged, place) if group and one.stacking_group == group]
    return _with_held(group, held)


def _exclusive(judged: Judged, place: int) -> Parameters:
    """The others that are held and stand alone, or all others if this one does."""
    coupon = judged.coupons.coupons[place]
    held = [one for one in _others_held(judged, place) if coupon.exclusive or one.exclusive]
    return _with_held(coupon.stacking_group, held)


def _others_held(judged: Judged, place: int) -> list[Coupon]:
    held = judged.situation.holdings.open_claims
    return [judged.coupons.coupons[one] for one in held if one != place]


def _with_held(group: str, held: list[Coupon]) -> Parameters:
    return {"group": group or "-", "held": ", ".join(one.item for one in held) or "-"}


def _minimum(judged: Judged, place: int) -> Parameters:
    basket = judged.situation.basket
    total = 0 if basket is None else basket.total
    minimum = int(judged.coupons.minimum_basket[place])
    return {"minimum": as_text(minimum), "basket": as_text(total)}


def _limit(number: int) -> str:
    return "-" if number == UNLIMITED else str(number)


def _none(_judged: Judged, _place: int) -> Parameters:
    return {}


PARAMETERS: Final[dict[str, Callable[[Judged, int], Parameters]]] = {
    "start_time": _times,
    "end_time": _times,
    "region": _region,
    "channel": _channel,
    "consent": _none,
    "audience": _audience,
    "hold_out": _none,
    "on_sale": _products,
    "known_value": _budget,
    "claims_per_user": _per_user,
    "claims": _claims,
    "budget": _budget,
    "campaign_budget": _budget,
    "stacking_group": _stacking,
    "exclusive": _exclusive,
    "basket_products": _products,
    "minimum_basket": _minimum,
}
"""What is told of each rule."""

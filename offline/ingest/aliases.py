"""What shops commonly call the canonical columns, to suggest a mapping in error messages.

Only a hint: nothing is ever mapped by a guess.
"""

from collections.abc import Iterable
from typing import Final

# Compared without case, spaces and punctuation, the likeliest first.
_COMMON_NAMES: Final[dict[str, str]] = {
    "event_id": "eventid uuid messageid id",
    "event_time": (
        "eventtime timestamp time datetime date createdat created orderdate orderedat ordertime "
        "orderts purchasedate transactiondate transactiontimestamp invoicedate occurredat ts at"
    ),
    "user": (
        "user userid customer customerid customerno customernumber client clientid member "
        "memberid household householdid visitor visitorid buyer buyerid account accountid uid"
    ),
    "session": "session sessionid visit visitid sid anonymousid cookie cookieid",
    "kind": "kind event eventtype eventname type action behavior behaviour",
    "item": (
        "item itemid itemno product productid productno sku skuid article articleid articleno "
        "asin stockcode variantid goodsid ean gtin"
    ),
    "title": "title name productname producttitle itemname label",
    "start_time": "starttime start startdate validfrom begin begins from",
    "end_time": "endtime end enddate validto validuntil ends until to",
}


def suggest(canonical: str, available: Iterable[str]) -> str | None:
    """The source column that is most likely the canonical one, None when none looks like it."""
    by_name = {_plain(name): name for name in available}
    aliases = _COMMON_NAMES.get(canonical, "").split()
    return next((by_name[alias] for alias in aliases if alias in by_name), None)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())

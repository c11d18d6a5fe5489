"""Changes of the catalogue at the edge: a message becomes a change, or is refused with reasons.

Only products are taken here: content and coupons come with a training, and are refused by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from google.protobuf.field_mask_pb2 import FieldMask

from aisle.v1 import catalog_pb2, money_pb2
from feature_store.catalog_log import Change
from online.service.checks import violations_of
from online.service.refusals import Violation, bad_request

PREFIX: Final = "product"


@dataclass(frozen=True, slots=True)
class ReadItem:
    """A change as it will be kept, and what is wrong with it: nothing, if it is taken."""

    change: Change
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class CatalogEdge:
    """What the translation needs. `currency` is the shop's, empty when any is taken."""

    currency: str

    def read(self, item: catalog_pb2.Item, fields: Sequence[str] | None) -> ReadItem:
        """Check one item by the rules of the contract, then by those of the catalogue.

        `fields` are those to change; None: the product is replaced whole.
        """
        violations = [*violations_of(item), *self._violations(item, fields)]
        change = Change(item.item_id, _values(item.product, fields), is_whole=fields is None)
        return ReadItem(change, tuple(violations))

    def _violations(self, item: catalog_pb2.Item, fields: Sequence[str] | None) -> list[Violation]:
        kind = item.WhichOneof("detail")
        if kind in ("content", "coupon"):
            return [Violation(kind, "comes with a training; only products can be changed at once")]
        found = []
        for name in ("price", "list_price"):
            currency = getattr(item.product, name).currency_code
            if currency and self.currency and currency != self.currency:
                place = f"product.{name}.currency_code"
                found.append(Violation(place, f"must be {self.currency}, the shop's"))
            if _amount(getattr(item.product, name)) < 0:
                found.append(Violation(f"product.{name}", "must not be negative"))
        if (fields is None or "title" in fields) and not item.product.title.strip():
            found.append(Violation("product.title", "a product needs one"))
        return found


def masked_fields(mask: FieldMask) -> tuple[str, ...]:
    """The fields of a product that a mask names. Raises RefusedError for others."""
    wrong = [path for path in mask.paths if _field(path) is None]
    if wrong:
        names = ", ".join(f"product.{name}" for name in _FIELDS)
        raise bad_request(
            Violation("update_mask", f"`{path}` cannot be changed, use of: {names}")
            for path in wrong
        )
    if PREFIX in mask.paths:
        return tuple(_FIELDS)
    return tuple(name for path in mask.paths if (name := _field(path)))


def _field(path: str) -> str | None:
    """The field of a path, "" for all of the product, None for a path that there is not."""
    if path == PREFIX:
        return ""
    head, _, name = path.partition(".")
    return name if head == PREFIX and name in _FIELDS else None


def _values(product: catalog_pb2.Product, fields: Sequence[str] | None) -> dict[str, Any]:
    """What a product says, by the names of the canonical table; what it leaves out when whole."""
    names = _FIELDS if fields is None else fields
    values = {_COLUMN.get(name, name): _FIELDS[name](product) for name in names}
    if fields is None:
        return {name: value for name, value in values.items() if value not in (None, "", [])}
    return values


def _amount(money: money_pb2.Money) -> float:
    return money.units + money.nanos / 1e9


def _money(name: Literal["price", "list_price"]) -> Callable[[catalog_pb2.Product], float | None]:
    return lambda product: _amount(getattr(product, name)) if product.HasField(name) else None


def _optional(
    name: Literal["margin", "available", "num_in_stock"],
) -> Callable[[catalog_pb2.Product], Any]:
    return lambda product: getattr(product, name) if product.HasField(name) else None


def _text(name: str) -> Callable[[catalog_pb2.Product], str]:
    return lambda product: str(getattr(product, name))


def _list(name: str) -> Callable[[catalog_pb2.Product], list[str]]:
    return lambda product: list(getattr(product, name))


def _created(product: catalog_pb2.Product) -> int | None:
    return product.created_time.ToMicroseconds() if product.HasField("created_time") else None


_FIELDS: Final[dict[str, Callable[[catalog_pb2.Product], Any]]] = {
    **{name: _text(name) for name in ("title", "category", "brand", "description")},
    "price": _money("price"),
    "list_price": _money("list_price"),
    "margin": _optional("margin"),
    **{name: _list(name) for name in ("tags", "regions")},
    **{name: _text(name) for name in ("image_url", "url")},
    "available": _optional("available"),
    "num_in_stock": _optional("num_in_stock"),
    "created_time": _created,
}
"""How each field of a product is read."""

_COLUMN: Final = {"regions": "region"}
"""What the canonical table calls a field otherwise."""

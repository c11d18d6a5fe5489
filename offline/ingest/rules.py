"""The schema as checks: the one place where a row is judged.

`feature_store.schema` says what a table may hold; here each of its promises becomes a Polars
expression with a reason. A row's reason is the first that applies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import polars as pl

from feature_store.schema import (
    CAMPAIGNS,
    COUPONS,
    EVENTS,
    FLOORS,
    ITEM_KINDS,
    MAX_ID_LENGTH,
    Column,
    Corpus,
    Table,
)
from offline.ingest.mapping import ShopMapping
from offline.ingest.tables import polars_schema
from offline.ingest.values import parse

ROW_NUMBER: Final = "row_number"
REASON: Final = "reason"

_GIVEN: Final = "given:"
_IDS: Final = frozenset({"event_id", "user", "session", "item", "basket"})
# Outside of these years an instant was read in the wrong unit, or is a stand-in for "unknown".
_PLAUSIBLE: Final = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_DEFAULTS: Final[dict[tuple[str, str], pl.Expr]] = {
    ("events", "corpus"): pl.lit(Corpus.PRODUCT.value),
    ("events", "quantity"): pl.lit(1.0, pl.Float32),
    ("products", "available"): pl.lit(True),
    ("users", "consent_personalization"): pl.lit(True),
    ("users", "consent_email"): pl.lit(True),
    ("promotions", "known_time"): pl.col("start_time"),
    ("coupons", "exclusive"): pl.lit(False),
    ("coupons", "floor_of"): pl.lit(FLOORS[0]),
}
_LIST_SEPARATOR: Final = "|"


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch in two: canonical rows, and rows that broke the schema.

    `rejected` has row_number, reason, and every canonical column as the text that was given.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame


def judge(table: Table, mapping: ShopMapping, given: pl.DataFrame) -> Judged:
    """Parse and check the given columns of a batch, which also has a row_number."""
    typed = pl.DataFrame(
        [parse(given[c.name], c, mapping.column(table, c.name)) for c in table.columns]
    )
    raw = given.select(pl.all().name.prefix(_GIVEN))
    reasons = pl.concat([typed, raw], how="horizontal").select(_reason(table)).to_series()
    accepted = typed.filter(reasons.is_null()).with_columns(*_defaults(table))
    rejected = given.with_columns(reasons).filter(reasons.is_not_null())
    return Judged(
        accepted.select(polars_schema(table).names()),
        rejected.select(ROW_NUMBER, REASON, *(_as_text(given, name) for name in table.names)),
    )


def quarantine_schema(table: Table) -> pl.Schema:
    """The columns of a table's quarantine, in order."""
    texts = dict.fromkeys(table.names, pl.String())
    places = {"source": pl.String(), "fingerprint": pl.String(), ROW_NUMBER: pl.Int64()}
    return pl.Schema({**places, REASON: pl.String(), **texts})


def _reason(table: Table) -> pl.Expr:
    checks = [check for column in table.columns for check in _column_checks(column)]
    checks += list(_table_checks(table))
    return pl.coalesce(pl.when(broken).then(pl.lit(why)) for why, broken in checks).alias(REASON)


def _column_checks(column: Column) -> Iterator[tuple[str, pl.Expr]]:
    """Reasons and, for each, what is true of the rows that it rejects."""
    name, value = column.name, pl.col(column.name)
    given = pl.col(f"{_GIVEN}{name}").is_not_null()
    if column.required:
        yield f"missing {name}", ~given
    yield f"unreadable {name}", given & value.is_null()
    if column.choices:
        yield f"unknown {name}", ~value.is_in(column.choices)
    if column.minimum is not None:
        below = "negative" if column.minimum == 0 else f"below {column.minimum}:"
        yield f"{below} {name}", value < column.minimum
    if name in _IDS:
        yield f"{name} longer than {MAX_ID_LENGTH}", value.str.len_chars() > MAX_ID_LENGTH


def _table_checks(table: Table) -> Iterator[tuple[str, pl.Expr]]:
    if table is EVENTS:
        time, kinds = pl.col("event_time"), [kind.value for kind in ITEM_KINDS]
        yield "implausible event_time", ~time.is_between(*_PLAUSIBLE, closed="left")
        yield "missing user and session", pl.col("user").is_null() & pl.col("session").is_null()
        yield "missing item", pl.col("kind").is_in(kinds) & pl.col("item").is_null()
    if {"publish_time", "expire_time"} <= set(table.names):
        yield "expire_time before publish_time", pl.col("expire_time") < pl.col("publish_time")
    if {"start_time", "end_time"} <= set(table.names):
        yield "end_time before start_time", pl.col("end_time") < pl.col("start_time")
    if table is CAMPAIGNS:
        yield "hold_out of 1 or more", pl.col("hold_out") >= 1
    if table is COUPONS:
        yield from _coupon_checks()


def _coupon_checks() -> Iterator[tuple[str, pl.Expr]]:
    """What a claim must know beforehand: what it gives, and the most that it can cost."""
    discount, value = pl.col("discount"), pl.col("value")
    has_value = value.is_not_null() & (value > 0)
    is_percent = discount == "percent"
    yield "missing value", is_percent & ~has_value
    yield "value above 100 percent", is_percent & (value > 100)
    yield "missing gift_item", (discount == "gift") & pl.col("gift_item").is_null()
    yield "floor_share of 1 or more", pl.col("floor_share") >= 1
    has_floor = pl.col("floor_share") > 0
    yield "missing floor_audience", has_floor & pl.col("floor_audience").is_null()
    is_unbounded = (discount != "amount") & pl.col("maximum").is_null()
    yield "a budget needs maximum", is_unbounded & pl.col("budget").is_not_null()
    yield "a floor_share needs maximum", is_unbounded & has_floor


def _defaults(table: Table) -> Iterator[pl.Expr]:
    for (name, column), default in _DEFAULTS.items():
        if name == table.name:
            yield pl.col(column).fill_null(default)


def _as_text(given: pl.DataFrame, name: str) -> pl.Expr:
    if isinstance(given.schema[name], pl.List):
        return pl.col(name).list.join(_LIST_SEPARATOR)
    return pl.col(name).cast(pl.String)

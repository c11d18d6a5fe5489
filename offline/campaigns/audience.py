"""Who a campaign is for: the file of people, what is known of them, and the filter over both.

The filter's language is that of products (AIP-160), over other fields. Here alone raw ids and
pseudonyms stand side by side. It knows no campaign's caps or arms, and no engine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.ids import Pseudonymizer
from feature_store.people import Moved
from feature_store.state import STATE_PREFIX
from feature_store.store import OnlineStore
from offline.campaigns import segments
from offline.campaigns.campaign import Audience
from offline.errors import CampaignError
from offline.ingest.tables import scan_users
from online.errors import RequestError
from online.offering.expression import AllOf, AnyOf, Expression, Not, Restriction, parse

NUMBERS: Final = ("recency_days", "tenure_days", "num_orders", "spend", "r", "f", "m")
TEXTS: Final = ("segment", "region", "language", "lifecycle")
LOVES: Final = "loves"

_COMPARE: Final = {
    "=": pl.Expr.eq, "!=": pl.Expr.ne, "<": pl.Expr.lt, "<=": pl.Expr.le, ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """Where people are looked up: the tables, the store, the key, and up to which instant.

    `former` is that of the key before, while it is rotated.
    """

    tables: Path
    store: OnlineStore
    pseudonymizer: Pseudonymizer
    end_time: int
    former: Pseudonymizer | None = None


def find_people(audience: Audience, known: Known) -> pl.DataFrame:
    """Everybody the campaign is for, sorted by pseudonym, each once.

    Columns: user (the raw id, or the pseudonym without a file), pseudonym, segment, region,
    language, attributes, and those of the file, as text. Raises CampaignError.
    """
    people = _listed(audience, known.store, known.pseudonymizer)
    users = scan_users(known.tables).select("user", "segment", "region", "language", "attributes")
    clash = [name for name in ("segment", "region", "language", "attributes") if name in people]
    people = people.drop(clash).join(
        users.collect(), left_on="pseudonym", right_on="user", how="left", maintain_order="left"
    )
    return people.filter(_chosen(audience.filter, people, known)) if audience.filter else people


def read_people(path: Path, user_column: str) -> pl.DataFrame:
    """A CSV or Parquet file with a column of raw user ids, all as text; CampaignError if wrong."""
    try:
        frame = (
            pl.read_parquet(path)
            if path.suffix == ".parquet"
            else pl.read_csv(path, infer_schema=False)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CampaignError(f"{path} cannot be read as CSV or Parquet: {error}") from error
    if user_column not in frame.columns:
        raise CampaignError(
            f"{path} has no column {user_column}, but: {', '.join(frame.columns)}; name it in "
            "audience.user_column"
        )
    texts = frame.rename({user_column: "user"}).cast(pl.String)
    return texts.filter(pl.col("user").fill_null("") != "")


def with_pseudonyms(people: pl.DataFrame, pseudonymizer: Pseudonymizer) -> pl.DataFrame:
    """The people with a column `pseudonym`, 64 hexadecimal digits."""
    hexdigest = pseudonymizer.hexdigest
    names = [hexdigest(raw) for raw in people["user"]]
    return people.with_columns(pl.Series("pseudonym", names, pl.String))


def _listed(audience: Audience, store: OnlineStore, pseudonymizer: Pseudonymizer) -> pl.DataFrame:
    if audience.file is None:
        names = sorted(_stored(store))
        frame = pl.DataFrame({"user": names}, {"user": pl.String()})
        return frame.with_columns(pseudonym=pl.col("user"))
    people = with_pseudonyms(read_people(audience.file, audience.user_column), pseudonymizer)
    return people.unique("pseudonym", keep="first", maintain_order=True).sort("pseudonym")


def _stored(store: OnlineStore) -> Iterator[str]:
    """The pseudonyms that have a state of their own."""
    for key, value in store.scan(STATE_PREFIX):
        if Moved.decode(value) is None:
            yield key.removeprefix(STATE_PREFIX).hex()


def _chosen(filter_text: str, people: pl.DataFrame, known: Known) -> pl.Series:
    """Which people pass the filter."""
    tree = parse(filter_text)
    fields = {one.field for one in _restrictions(tree)}
    frame = people
    if fields & {*NUMBERS, "lifecycle"}:
        found = segments.segments(known.tables, known.end_time)
        frame = frame.join(found, on="pseudonym", how="left", maintain_order="left")
        frame = frame.with_columns(
            pl.col("lifecycle").fill_null("never"), pl.col("num_orders", "spend").fill_null(0)
        )
    for category in {one.value for one in _restrictions(tree) if one.field == LOVES}:
        lovers = segments.lovers(known.tables, known.end_time, category)
        is_lover = pl.col("pseudonym").is_in(lovers["pseudonym"].implode())
        frame = frame.with_columns(is_lover.alias(f"{LOVES}:{category}"))
    keys = frame["attributes"].explode().drop_nulls().str.split("=").list.first()
    names = frozenset(keys.to_list()) | (set(people.columns) - {"user", "pseudonym", "attributes"})
    try:
        chosen = frame.select(chosen=_expression(tree, names, frame.schema).fill_null(value=False))
    except RequestError as error:
        raise CampaignError(f"audience.{error}") from error
    return chosen["chosen"]


def _restrictions(tree: Expression) -> Iterator[Restriction]:
    match tree:
        case Restriction():
            yield tree
        case Not(part):
            yield from _restrictions(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _restrictions(part)


def _expression(
    tree: Expression, names: frozenset[str], schema: Mapping[str, pl.DataType]
) -> pl.Expr:
    match tree:
        case Restriction():
            return _comparison(tree, names, schema)
        case Not(part):
            return ~_expression(part, names, schema).fill_null(value=False)
        case AllOf(parts):
            return pl.all_horizontal(
                pl.lit(value=True), *(_expression(part, names, schema) for part in parts)
            )
        case AnyOf(parts):
            return pl.any_horizontal(_expression(part, names, schema) for part in parts)


def _comparison(
    one: Restriction, names: frozenset[str], schema: Mapping[str, pl.DataType]
) -> pl.Expr:
    operator = "=" if one.operator == ":" else one.operator
    if one.field == LOVES:
        _require(one, ("=", ":"))
        return pl.col(f"{LOVES}:{one.value}")
    if one.field in NUMBERS:
        return _COMPARE[operator](pl.col(one.field).cast(pl.Float64), _number(one))
    if one.field in schema and one.field not in ("user", "pseudonym", "attributes"):
        if operator in ("=", "!="):
            return _COMPARE[operator](pl.col(one.field), pl.lit(one.value))
        value = pl.col(one.field).cast(pl.Float64, strict=False)
        return _COMPARE[operator](value, _number(one))
    if one.field in names:
        _require(one, ("=", ":", "!="))
        has = pl.col("attributes").list.contains(f"{one.field}={one.value}")
        return ~has if operator == "!=" else has
    known = sorted({*NUMBERS, *TEXTS, LOVES, *names})
    raise RequestError("filter", f"`{one.field}` is not known of people; known: {', '.join(known)}")


def _require(one: Restriction, operators: tuple[str, ...]) -> None:
    if one.operator not in operators:
        raise RequestError("filter", f"`{one.field}` is compared by {' or '.join(operators)} only")


def _number(one: Restriction) -> float:
    try:
        return float(one.value)
    except ValueError:
        what = f"`{one.field}` is compared with a number, not `{one.value}`"
        raise RequestError("filter", what) from None

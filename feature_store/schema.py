"""The canonical tables: every column name, dtype and event kind, spelled once.

Plain data, so that both the offline jobs (which turn it into Polars schemas) and the
online service (which must not load Polars) read the same page. It knows no storage and
no file format.

Instants are UTC with microsecond resolution. Ids are opaque non-empty strings. In the
tables that leave ingestion, `user` and `session` hold pseudonyms (see
`feature_store.ids`), never the raw ids of the shop.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

MICROSECONDS_PER_DAY: Final = 86_400_000_000

MAX_ID_LENGTH: Final = 256

DType = Literal["string", "time", "float32", "float64", "bool", "strings"]
"""`float64` is for money that must come back to the cent: a budget has more digits than a price."""


class EventKind(StrEnum):
    """What a user did, or what was done towards them. The order is the wire and storage code."""

    IMPRESSION = "impression"
    VIEW = "view"
    CLICK = "click"
    SEARCH = "search"
    CART_ADD = "cart_add"
    CART_REMOVE = "cart_remove"
    PURCHASE = "purchase"
    CONTENT_READ = "content_read"
    COUPON_VIEW = "coupon_view"
    COUPON_CLAIM = "coupon_claim"
    COUPON_REDEEM = "coupon_redeem"
    MAIL_SENT = "mail_sent"
    MAIL_OPEN = "mail_open"
    MAIL_CLICK = "mail_click"
    UNSUBSCRIBE = "unsubscribe"
    LIKE = "like"
    DISLIKE = "dislike"
    NOT_INTERESTED = "not_interested"
    SATISFACTION = "satisfaction"


EVENT_KINDS: Final[tuple[EventKind, ...]] = tuple(EventKind)
EVENT_KIND_CODE: Final[dict[str, int]] = {kind.value: code for code, kind in enumerate(EVENT_KINDS)}

# Kinds that say nothing without an item.
ITEM_KINDS: Final[frozenset[EventKind]] = frozenset(EVENT_KINDS) - {
    EventKind.SEARCH,
    EventKind.MAIL_SENT,
    EventKind.MAIL_OPEN,
    EventKind.MAIL_CLICK,
    EventKind.UNSUBSCRIBE,
    EventKind.SATISFACTION,
}


class Corpus(StrEnum):
    """What can be recommended. The order is the storage code."""

    PRODUCT = "product"
    CONTENT = "content"
    COUPON = "coupon"


CORPORA: Final[tuple[Corpus, ...]] = tuple(Corpus)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a canonical table.

    `required` columns may hold no null; `minimum` is the smallest value allowed.
    """

    name: str
    dtype: DType
    required: bool = False
    minimum: float | None = None
    choices: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A canonical table: its name, its columns and the columns that identify a row."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column:
        """The column called `name`; KeyError if the table has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(column.name for column in self.columns)


EVENTS: Final = Table(
    name="events",
    key=("event_id",),
    columns=(
        Column("event_id", "string", description="unique; made from the row's content when absent"),
        Column("event_time", "time", required=True),
        Column("user", "string", description="user id; may be absent when session is given"),
        Column("session", "string", description="id of an anonymous or known visit"),
        Column("kind", "string", required=True, choices=tuple(kind.value for kind in EVENT_KINDS)),
        Column("corpus", "string", choices=tuple(c.value for c in CORPORA), description="product"),
        Column("item", "string", description="required for every kind that concerns an item"),
        Column("quantity", "float32", minimum=0.0, description="default 1"),
        Column("price", "float32", minimum=0.0, description="paid or shown, per unit"),
        Column("basket", "string", description="order id, the same for all rows of one order"),
        Column("placement", "string", description="where it happened, see online.placements"),
        Column("query", "string", description="search text"),
        Column("attribution_token", "string", description="token of the answer that led here"),
    ),
)

PRODUCTS: Final = Table(
    name="products",
    key=("item",),
    columns=(
        Column("item", "string", required=True),
        Column("title", "string", required=True),
        Column("category", "string", description="path, levels separated by ' > '"),
        Column("brand", "string"),
        Column("price", "float32", minimum=0.0),
        Column("margin", "float32", description="share of the price that is profit, e.g. 0.25"),
        Column("description", "string"),
        Column("tags", "strings"),
        Column("region", "strings", description="where it is sold; empty: everywhere"),
        Column("image_url", "string"),
        Column("url", "string"),
        Column("available", "bool", description="default true"),
        Column("created_time", "time"),
    ),
)

USERS: Final = Table(
    name="users",
    key=("user",),
    columns=(
        Column("user", "string", required=True),
        Column("segment", "string"),
        Column("region", "string"),
        Column("language", "string", description="BCP 47, e.g. en or zh"),
        Column("attributes", "strings", description="key=value pairs, e.g. age=45-54"),
        Column("consent_personalization", "bool", description="default true"),
        Column("consent_email", "bool", description="default true"),
        Column("consent_time", "time", description="since when the consents are as they are"),
    ),
)

PROMOTIONS: Final = Table(
    name="promotions",
    key=("item", "kind", "start_time"),
    columns=(
        Column("item", "string", required=True),
        Column("kind", "string", required=True, description="e.g. display, mailer, discount"),
        Column("start_time", "time", required=True),
        Column("end_time", "time", required=True),
        Column("known_time", "time", description="when it was announced; default start_time"),
        Column("strength", "float32", minimum=0.0, description="e.g. share of stores, discount"),
    ),
)

CONTENT: Final = Table(
    name="content",
    key=("item", "language"),
    columns=(
        Column("item", "string", required=True, description="the same for all languages of it"),
        Column("language", "string", required=True, description="BCP 47, e.g. en or zh"),
        Column("kind", "string", required=True, description="e.g. help, guide, recipe, news"),
        Column("title", "string", required=True),
        Column("body", "string", required=True, description="an empty line between paragraphs"),
        Column("products", "strings", description="ids of products that it is about"),
        Column("categories", "strings", description="paths that it is about, or names of a level"),
        Column("tags", "strings"),
        Column("phrases", "strings", description="other words that shoppers use for it"),
        Column("author", "string"),
        Column("image_url", "string"),
        Column("url", "string"),
        Column("publish_time", "time", description="shown from then on; default: at once"),
        Column("expire_time", "time", description="shown until then; default: for good"),
    ),
)
"""What there is to read, a row for each language of a piece."""

CAMPAIGNS: Final = Table(
    name="campaigns",
    key=("campaign",),
    columns=(
        Column("campaign", "string", required=True),
        Column("kind", "string", description="campaigns of a kind resemble each other"),
        Column("title", "string"),
        Column("start_time", "time"),
        Column("end_time", "time"),
        Column("budget", "float64", minimum=0.0, description="of all its coupons together"),
        Column("hold_out", "float64", minimum=0.0, description="share of users who get none of it"),
    ),
)

"""Who is held out is drawn by `feature_store.coupons.is_held_out`, so that what a campaign does is
learned from the difference."""

DISCOUNTS: Final = ("percent", "amount", "gift", "free_delivery")
"""What a coupon can give. The order is the storage code."""

FLOORS: Final = ("offers", "money")
"""What a floor is a share of: of how often it is offered, or of what it is expected to cost."""

COUPONS: Final = Table(
    name="coupons",
    key=("item",),
    columns=(
        Column("item", "string", required=True, description="its id, unique over all corpora"),
        Column("campaign", "string", required=True),
        Column("title", "string", required=True),
        Column("terms", "string"),
        Column("discount", "string", required=True, choices=DISCOUNTS),
        Column("value", "float64", minimum=0.0, description="percent, or an amount of money"),
        Column("gift_item", "string"),
        Column("maximum", "float64", minimum=0.0, description="the most that it gives"),
        Column("minimum_basket", "float64", minimum=0.0),
        Column("products", "strings", description="good for these; with no categories too: all"),
        Column("categories", "strings", description="good for these paths and all below"),
        Column("start_time", "time"),
        Column("end_time", "time"),
        Column("audience", "string", description="filter over segment, region, age=..., campaign"),
        Column("max_claims_per_user", "float64", minimum=0.0, description="0 or null: unlimited"),
        Column("max_claims", "float64", minimum=0.0, description="0 or null: unlimited"),
        Column("budget", "float64", minimum=0.0, description="of this coupon alone"),
        Column("floor_audience", "string", description="whom a least share of it is for, a filter"),
        Column("floor_share", "float64", minimum=0.0, description="that share, below 1"),
        Column("floor_of", "string", choices=FLOORS, description="of what; default offers"),
        Column("stacking_group", "string", description="one of a group in a basket"),
        Column("exclusive", "bool", description="alone in a basket; default false"),
        Column("region", "strings", description="where it is good; empty: everywhere"),
        Column("channel", "strings", description="web, app, store, ...; empty: all"),
    ),
)
"""A coupon whose discount is `amount` and that has no `value` is worth the median of what it gave
when it was redeemed before the horizon of a training, see `offline.coupons.values`."""

AUDIENCES: Final = Table(
    name="audiences",
    key=("campaign", "user"),
    columns=(
        Column("campaign", "string", required=True),
        Column("user", "string", required=True),
        Column("start_time", "time", description="since when the user is in it"),
    ),
)
"""Who was chosen for a campaign, if it is not for everybody: `campaign = ID` in an audience."""

MERGES: Final = Table(
    name="merges",
    key=("kind", "source"),
    columns=(
        Column("kind", "string", required=True, choices=("session", "user")),
        Column("source", "string", required=True, description="pseudonym that was given away"),
        Column("target", "string", required=True, description="pseudonym of the user who got it"),
        Column("merge_time", "time", required=True),
    ),
)
"""Who became whom. Made by the server, never read from a shop's files, so not in TABLES."""

TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (EVENTS, PRODUCTS, USERS, PROMOTIONS, CONTENT, CAMPAIGNS, COUPONS, AUDIENCES)
}

CATEGORY_SEPARATOR: Final = " > "

"""What stands in each mail: people of a plan asked of the engine, answers as rows.

The engine is asked exactly what the server would be asked at that instant. It knows no files.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from feature_store.coupons import MAIL
from feature_store.schema import Corpus
from offline.campaigns.campaign import Arm, Campaign
from offline.campaigns.fields import variables
from offline.campaigns.planning import OWN_VARIABLES
from offline.ingest.tables import TIME
from online.coupons.frozen import FrozenUse
from online.engine import Engine
from online.explain import reasons
from online.feedback.attribution import REQUEST_ID_BYTES, Attribution, TokenSigner
from online.snapshot import Snapshot
from online.types import Quota, Request, Slate, SlateItem

REQUESTS_PER_CALL: Final = 256

MAIL_SCHEMA: Final = pl.Schema(
    {
        "user": pl.String(),
        "pseudonym": pl.String(),
        "campaign": pl.String(),
        "arm": pl.String(),
        "send_time": TIME,
        "language": pl.String(),
        "subject": pl.String(),
        "slot": pl.String(),
        "rank": pl.Int32(),
        "item": pl.String(),
        "title": pl.String(),
        "category": pl.String(),
        "price": pl.Float32(),
        "image_url": pl.String(),
        "url": pl.String(),
        "reason_code": pl.String(),
        "reason_text": pl.String(),
        "terms": pl.String(),
        "expected_cost": pl.Float64(),
        "mailing": pl.String(),
        "score": pl.Float32(),
        "source": pl.String(),
        "propensity": pl.Float32(),
        "tracking_token": pl.String(),
        "model_version": pl.String(),
    }
)
"""The columns of a campaign's export, a row for each place of each mail.

`user` is the shop's id if the campaign has an audience file, else the pseudonym; `slot` the corpus
and `rank` the place in the mail, from 1; `price` null where unknown; `terms` a coupon's, and
`expected_cost` what it costs on average; `mailing` what a claim of it names as its campaign;
`tracking_token` the same for all places of a mail and of no other mail; `send_time` UTC.
"""

LEFT_OUT_SCHEMA: Final = pl.Schema(
    {"user": pl.String(), "pseudonym": pl.String(), "arm": pl.String(), "reason": pl.String()}
)
"""The columns of the file of those who get no mail, a row each; `reason` of planning.REASONS."""

NOTHING: Final = "nothing_to_say"

HEAD: Final = (
    "user", "pseudonym", "arm", "language", "subject", "tracking_token", "model_version",
)  # fmt: skip
PLACE: Final = (
    "slot", "rank", "item", "title", "category", "price", "image_url", "url", "reason_code",
    "reason_text", "terms", "score", "source", "propensity",
)  # fmt: skip
"""What is the same for all places of a mail, and what is each place's own."""

Look = tuple[str, str, float | None, str, str]
"""Title, category, price, image and link."""


@dataclass(frozen=True, slots=True)
class _Mails:
    """Mails as rows of HEAD, and the places of all of them as rows of PLACE."""

    heads: list[tuple[str, ...]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    places: list[tuple[object, ...]] = field(default_factory=list)

    def frame(self, campaign: str, time: int) -> pl.DataFrame:
        """One row a place, as MAIL_SCHEMA."""
        if not self.heads:
            return pl.DataFrame(schema=MAIL_SCHEMA)
        mail = np.repeat(np.arange(len(self.heads)), self.lengths)
        of_place = _columns(self.places, PLACE)
        return (
            _columns(self.heads, HEAD)[mail]
            .hstack(of_place)
            .select(
                pl.col(name) if name in HEAD + PLACE else made.cast(MAIL_SCHEMA[name]).alias(name)
                for name, made in _made(campaign, time)
            )
        )


def _columns(rows: list[tuple[Any, ...]], names: tuple[str, ...]) -> pl.DataFrame:
    """Rows as a frame: by columns, which is many times faster than by rows."""
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return pl.DataFrame([pl.Series(name, values, MAIL_SCHEMA[name]) for name, values in columns])


def _made(campaign: str, time: int) -> Iterator[tuple[str, pl.Expr]]:
    """The columns that are the same for all mails; the money for coupons is settled later."""
    same = {"campaign": pl.lit(campaign), "send_time": pl.lit(time, pl.Int64())}
    for name in MAIL_SCHEMA:
        yield name, same.get(name, pl.lit(None))


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes the mails of one campaign. `time` is the instant of all requests, microseconds UTC.

    `columns` are the names of the plan's variables; `use` is what the engine's coupons go by.
    """

    campaign: Campaign
    engine: Engine
    tokens: TokenSigner
    time: int
    columns: tuple[str, ...] = ()
    use: FrozenUse | None = None

    def write(self, plan: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The mails and the left out of some rows of a plan, as MAIL_SCHEMA, LEFT_OUT_SCHEMA."""
        mails = _Mails()
        silent: list[tuple[str, str, str, str]] = []
        people = plan.filter(pl.col("left_out").is_null())
        for chunk in people.iter_slices(REQUESTS_PER_CALL):
            some = chunk.to_dicts()
            if self.use is not None:
                self.use.hold(some)
            slates = self.engine.recommend_many([self.request(person) for person in some])
            looks = self._looks(slates)
            for person, slate in zip(some, slates, strict=True):
                if not self._add(mails, person, slate, looks):
                    silent.append((person["user"], person["pseudonym"], person["arm"], NOTHING))
        left = plan.filter(pl.col("left_out").is_not_null())
        told = left.select("user", "pseudonym", "arm", reason="left_out")
        quiet = pl.DataFrame(silent, LEFT_OUT_SCHEMA, orient="row")
        left_out = pl.concat([told, quiet]).sort("pseudonym")
        return mails.frame(self.campaign.campaign, self.time), left_out

    def request(self, person: dict[str, Any]) -> Request:
        """What the engine is asked for a person of a plan."""
        campaign, arm = self.campaign, self.campaign.arm(person["arm"])
        slots = campaign.slots
        excluded = (*campaign.exclude_items, *person["excluded"])
        return Request(
            self.time,
            arm.placement or campaign.placement,
            bytes.fromhex(person["pseudonym"]),
            page_size=slots.total,
            locale=person["language"],
            filter=campaign.filter if arm.filter is None else arm.filter,
            region=person["region"],
            exclude_items=excluded,
            diversity=campaign.diversity if arm.diversity is None else arm.diversity,
            corpora=_quotas(campaign),
            languages=(person["language"],) if slots.content else (),
            channel=MAIL,
        )

    def token(self, pseudonym: str, placement: str, model_version: str) -> str:
        """The tracking token of a person's mail: the same however often it is exported."""
        request_id = mail_id(self.campaign.campaign, self.time, pseudonym)
        return self.tokens.sign(Attribution(request_id, placement, model_version))

    def _looks(self, slates: Sequence[Slate]) -> dict[str, Look]:
        """What is shown of each product, by its id: the catalogue may be newer than the slates."""
        items = dict.fromkeys(
            item.item for slate in slates for item in slate.items if item.card is None
        )
        snapshot = self.engine.snapshot
        indexes = snapshot.catalog.indexes_of(list(items)).tolist()
        return {
            item: _look(snapshot, index) if index >= 0 else (item, "", None, "", "")
            for item, index in zip(items, indexes, strict=True)
        }

    def _add(
        self, mails: _Mails, person: dict[str, Any], slate: Slate, looks: Mapping[str, Look]
    ) -> bool:
        """Add a mail; False when there are too few products to write for."""
        num_products = sum(item.corpus is Corpus.PRODUCT for item in slate.items)
        if num_products < self.campaign.slots.min_products or not slate.items:
            return False
        arm, language = self.campaign.arm(person["arm"]), person["language"]
        placement = arm.placement or self.campaign.placement
        token = self.token(person["pseudonym"], placement, slate.model_version)
        subject = self._subject(person, arm, slate, looks)
        mails.heads.append(
            (
                person["user"], person["pseudonym"], person["arm"], language, subject, token,
                slate.model_version,
            )
        )  # fmt: skip
        mails.lengths.append(len(slate.items))
        mails.places.extend(
            (item.corpus.value, rank, *_shown(item, language, looks))
            for rank, item in enumerate(slate.items, 1)
        )
        return True

    def _subject(
        self, person: dict[str, Any], arm: Arm, slate: Slate, looks: Mapping[str, Look]
    ) -> str:
        line = self.campaign.subject if arm.subject is None else arm.subject
        if not line or not variables(line):
            return line
        values = dict(zip(self.columns, person["variables"], strict=True))
        products = [item for item in slate.items if item.corpus is Corpus.PRODUCT]
        own = (
            looks[products[0].item][0] if products else "",
            len(products),
            self.campaign.title or self.campaign.campaign,
            person["arm"],
        )
        return line.format(**values, **dict(zip(OWN_VARIABLES, own, strict=True)))


def with_emptied(left_out: pl.DataFrame, written: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """The left out, and those of whose written mails no place is kept."""
    emptied = written.join(kept.select("pseudonym"), on="pseudonym", how="anti")
    told = emptied.unique("pseudonym").select("user", "pseudonym", "arm", reason=pl.lit(NOTHING))
    return pl.concat([left_out, told]).sort("pseudonym")


def mail_id(campaign: str, time: int, pseudonym: str) -> bytes:
    """What the tokens of a person's mail name, of whatever model and plan: 16 bytes."""
    text = f"{campaign}/{time}/{pseudonym}".encode()
    return hashlib.blake2b(text, digest_size=REQUEST_ID_BYTES).digest()


def _shown(item: SlateItem, language: str, looks: Mapping[str, Look]) -> tuple[object, ...]:
    """The columns from item to propensity."""
    why = (item.reason.code, reasons.text(item.reason, language))
    how = (item.score, item.source, item.propensity)
    card = item.card
    if card is None:
        return (item.item, *looks[item.item], *why, "", *how)
    look = (card.title, card.category, None, card.image_url, card.url)
    terms = str(getattr(card.detail, "terms", ""))
    return (item.item, *look, *why, terms, *how)


def _look(snapshot: Snapshot, index: int) -> Look:
    catalog = snapshot.catalog
    price = float(catalog.price[index])
    return (
        catalog.title[index],
        catalog.category[index],
        None if math.isnan(price) else price,
        catalog.image_url[index],
        catalog.url[index],
    )


def _quotas(campaign: Campaign) -> tuple[Quota, ...]:
    """The corpora of each mail; none for products alone, which is what a page asks for."""
    return tuple(_wanted(campaign)) if campaign.slots.content or campaign.slots.coupons else ()


def _wanted(campaign: Campaign) -> Iterator[Quota]:
    slots = campaign.slots
    numbers: Sequence[tuple[Corpus, int]] = (
        (Corpus.PRODUCT, slots.products),
        (Corpus.CONTENT, slots.content),
        (Corpus.COUPON, slots.coupons),
    )
    for corpus, num in numbers:
        if num:
            kinds = slots.content_kinds if corpus is Corpus.CONTENT else ()
            yield Quota(corpus, num, kinds)

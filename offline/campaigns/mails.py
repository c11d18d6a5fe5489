"""What stands in each mail: people of a plan asked of the engine, answers as rows.

The engine is asked exactly what the server would be asked at that instant. It knows no files.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from feature_store.schema import Corpus
from offline.campaigns.campaign import Arm, Campaign
from offline.campaigns.fields import variables
from offline.campaigns.planning import OWN_VARIABLES
from offline.ingest.tables import TIME
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

Mails = list[tuple[object, ...]]
Look = tuple[str, str, float | None, str, str]
"""Title, category, price, image and link."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes the mails of one campaign. `time` is the instant of all requests, microseconds UTC.

    `columns` are the names of the plan's variables.
    """

    campaign: Campaign
    engine: Engine
    tokens: TokenSigner
    time: int
    columns: tuple[str, ...] = ()

    def write(self, plan: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The mails and the left out of some rows of a plan, as MAIL_SCHEMA, LEFT_OUT_SCHEMA."""
        rows: Mails = []
        silent: list[tuple[str, str, str, str]] = []
        people = plan.filter(pl.col("left_out").is_null())
        for chunk in people.iter_slices(REQUESTS_PER_CALL):
            some = chunk.to_dicts()
            slates = self.engine.recommend_many([self.request(person) for person in some])
            looks = self._looks(slates)
            for person, slate in zip(some, slates, strict=True):
                mail = self._mail(person, slate, looks)
                if not mail:
                    silent.append((person["user"], person["pseudonym"], person["arm"], NOTHING))
                rows += mail
        left = plan.filter(pl.col("left_out").is_not_null())
        told = left.select("user", "pseudonym", "arm", reason="left_out")
        quiet = pl.DataFrame(silent, LEFT_OUT_SCHEMA, orient="row")
        mails = pl.DataFrame(rows, {**MAIL_SCHEMA, "send_time": pl.Int64()}, orient="row")
        left_out = pl.concat([told, quiet]).sort("pseudonym")
        return mails.with_columns(pl.col("send_time").cast(TIME)), left_out

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
        )

    def token(self, pseudonym: str, placement: str, model_version: str) -> str:
        """The tracking token of a person's mail: the same however often it is exported."""
        text = f"{self.campaign.campaign}/{self.time}/{pseudonym}".encode()
        request_id = hashlib.blake2b(text, digest_size=REQUEST_ID_BYTES).digest()
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

    def _mail(self, person: dict[str, Any], slate: Slate, looks: Mapping[str, Look]) -> Mails:
        """The rows of one mail; none when there are too few products to write for."""
        campaign = self.campaign
        arm = campaign.arm(person["arm"])
        num_products = sum(item.corpus is Corpus.PRODUCT for item in slate.items)
        if num_products < campaign.slots.min_products or not slate.items:
            return []
        placement = arm.placement or campaign.placement
        token = self.token(person["pseudonym"], placement, slate.model_version)
        subject = self._subject(person, arm, slate, looks)
        head = (
            person["user"], person["pseudonym"], campaign.campaign, person["arm"], self.time,
            person["language"], subject,
        )  # fmt: skip
        foot = (token, slate.model_version)
        return [
            (*head, item.corpus.value, rank, *_shown(item, person["language"], looks), *foot)
            for rank, item in enumerate(slate.items, 1)
        ]

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


def _shown(item: SlateItem, language: str, looks: Mapping[str, Look]) -> tuple[object, ...]:
    """The columns from item to propensity."""
    why = (item.reason.code, reasons.text(item.reason, language))
    how = (item.score, item.source, item.propensity)
    card = item.card
    if card is None:
        return (item.item, *looks[item.item], *why, "", None, None, *how)
    look = (card.title, card.category, None, card.image_url, card.url)
    terms = str(getattr(card.detail, "terms", ""))
    return (item.item, *look, *why, terms, None, None, *how)


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

"""Who of the audience gets which arm, and why the others get nothing: settled before any mail.

Arms and hold-outs go by a hash of the person, so that they are the same whoever asks and however
often. A reason is the first that holds, in the order of REASONS. It knows no engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.assignment import assign, dice
from feature_store.ledger import Ledger
from feature_store.people import CONSENT_PREFIX, SOURCES_PREFIX, Consent, decode_sources
from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import STATE_PREFIX
from feature_store.tombstones import Tombstones
from offline.campaigns.audience import Known, find_people, read_people, with_pseudonyms
from offline.campaigns.campaign import HOLD_OUT, USERS_OWN, Campaign
from offline.campaigns.fields import variables
from offline.campaigns.mail_history import items_sent, mails_sent, over_cap
from offline.errors import CampaignError
from online.coupons.frozen import claims_by_person
from online.explain.reasons import LANGUAGES, language

REASONS: Final = (
    "erased",
    "merged",
    "suppressed",
    "consent",
    "personalization",
    "cap",
    HOLD_OUT,
    "nothing_to_say",
)
"""Why somebody of the audience gets no mail; the last is known once the engine has answered."""

CLAIM: Final = pl.Struct({"item": pl.String(), "claim_id": pl.String()})
"""A claim that counts: `claim_id` is empty where it is not open any more."""

PLAN_SCHEMA: Final = pl.Schema(
    {
        "user": pl.String(),
        "pseudonym": pl.String(),
        "arm": pl.String(),
        "left_out": pl.String(),
        "language": pl.String(),
        "region": pl.String(),
        "excluded": pl.List(pl.String()),
        "variables": pl.List(pl.String()),
        "part": pl.Int32(),
        "claims": pl.List(CLAIM),
    }
)
"""One row a person of the audience. `left_out` is null for who is written to; `variables` are the
values of the subject lines' variables, in the order of `subject_columns`; `part` is the number of
the part that the person is in, from 0; `claims` are those of coupons, see `with_claims`."""

OWN_VARIABLES: Final = ("top_title", "num_products", "campaign", "arm")
"""The variables that every mail has, whatever the audience file holds."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` (from 1) of `count` parts that people fall into by their pseudonyms."""

    number: int = 1
    count: int = 1

    def holds(self, pseudonym: str) -> bool:
        """Whether a person, 64 hexadecimal digits, belongs to it."""
        return int(pseudonym[:16], 16) % self.count == self.number - 1


WHOLE: Final = Shard()
"""Everybody."""


@dataclass(frozen=True, slots=True)
class Site:
    """The installation: `home` with the spools, and who was erased."""

    home: Path
    known: Known
    tombstones: Tombstones


def make_plan(
    campaign: Campaign, site: Site, time: int, shard: Shard = WHOLE, people_per_part: int = 1
) -> pl.DataFrame:
    """The plan as of `time`, microseconds UTC, sorted by pseudonym. Raises CampaignError.

    Whoever is erased later leaves the plan, and the others stay in their parts.
    """
    people = find_people(campaign.audience, site.known)
    if shard.count > 1:
        mine = [shard.holds(name) for name in people["pseudonym"]]
        people = people.filter(pl.Series(mine, dtype=pl.Boolean))
    columns = subject_columns(campaign)
    _require_columns(columns, people.columns)
    longest = max([campaign.no_repeat_days, *(cap.days for cap in campaign.caps)])
    since = time - round(longest * MICROSECONDS_PER_DAY)
    mails = mails_sent(site.home, site.known.tables, since)
    excluded = items_sent(mails, campaign.no_repeat_days, time)
    plan = people.join(excluded, on="pseudonym", how="left", maintain_order="left")
    names = plan["pseudonym"].to_list()
    held = assign_hold_out(campaign, names)
    return plan.select(
        "user",
        "pseudonym",
        pl.Series("arm", assign_arms(campaign, names), pl.String).set(
            pl.Series(held, dtype=pl.Boolean), HOLD_OUT
        ),
        _left_out(campaign, site, plan, mails, held, time),
        _language(campaign),
        (pl.col("region") if campaign.region == USERS_OWN else pl.lit(campaign.region))
        .fill_null("")
        .alias("region"),
        pl.col("excluded").fill_null(pl.lit([], pl.List(pl.String))),
        _values(columns),
        (pl.int_range(pl.len()) // people_per_part).alias("part"),
        pl.lit([], pl.List(CLAIM)).alias("claims"),
    ).cast(dict(PLAN_SCHEMA))  # type: ignore[arg-type]  # a schema is a mapping of dtypes


def with_claims(plan: pl.DataFrame, ledger: Ledger, time: int) -> pl.DataFrame:
    """The plan with the claims of each person that count at `time`. Raises LedgerError."""
    rows = claims_by_person(ledger, plan["pseudonym"].to_list(), time)
    schema = {"pseudonym": pl.String(), "claims": pl.List(CLAIM)}
    claims = pl.DataFrame(list(rows), schema, orient="row")
    joined = plan.drop("claims").join(claims, on="pseudonym", how="left", maintain_order="left")
    return joined.with_columns(pl.col("claims").fill_null([])).select(plan.columns)


def subject_columns(campaign: Campaign) -> tuple[str, ...]:
    """The columns of the audience file that the subject lines name."""
    lines = [campaign.subject, *(arm.subject or "" for arm in campaign.arms)]
    named = dict.fromkeys(name for line in lines for name in variables(line))
    return tuple(name for name in named if name not in OWN_VARIABLES)


def _require_columns(columns: Sequence[str], known: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in known or name == "attributes"]:
        raise CampaignError(
            f"subject: {{{missing[0]}}} is not known; known: "
            f"{', '.join([*OWN_VARIABLES, *known])}; other columns come from audience.file"
        )


def assign_hold_out(campaign: Campaign, names: Sequence[str]) -> NDArray[np.bool_]:
    """Who is held out, by a hash of person and group; shape (people,)."""
    return dice(f"hold out/{campaign.hold_out.group}", names) < campaign.hold_out.share


def assign_arms(campaign: Campaign, names: Sequence[str]) -> list[str]:
    """Each person's arm, by a hash of person and campaign."""
    shares = [arm.share for arm in campaign.arms]
    places = assign(campaign.campaign, shares, names)
    return [campaign.arms[place].name for place in places]


def _left_out(
    campaign: Campaign,
    site: Site,
    people: pl.DataFrame,
    mails: pl.DataFrame,
    held: NDArray[np.bool_],
    time: int,
) -> pl.Series:
    """Why each person gets no mail, null for who gets one."""
    name = pl.col("pseudonym")
    former = _former_names(campaign, site, people)
    no_mails, nothing_personal = (
        refusing | {former[one] for one in refusing & former.keys()} for refusing in _refusals(site)
    )
    if campaign.audience.unpersonalized:
        nothing_personal = set()
    capped = [over_cap(mails, cap, time) for cap in campaign.caps]
    sets = {
        "erased": _erased(campaign, site, people, former),
        "merged": _merged(site),
        "suppressed": _suppressed(campaign, site),
        "consent": no_mails,
        "personalization": nothing_personal,
        "cap": {one for series in capped for one in series},
    }
    reason = pl.when(pl.Series(held, dtype=pl.Boolean)).then(pl.lit(HOLD_OUT)).otherwise(None)
    for word in reversed(REASONS[: len(sets)]):
        if sets[word]:
            among = pl.Series(sorted(sets[word]), dtype=pl.String).implode()
            reason = pl.when(name.is_in(among)).then(pl.lit(word)).otherwise(reason)
    return people.select(reason.cast(pl.String).alias("left_out")).to_series()


def _former_names(campaign: Campaign, site: Site, people: pl.DataFrame) -> dict[str, str]:
    """The pseudonym of each person of a file, by the one that they had under the key before."""
    if site.known.former is None or campaign.audience.file is None:
        return {}
    before = with_pseudonyms(people.select("user"), site.known.former)["pseudonym"]
    return dict(zip(before, people["pseudonym"], strict=True))


def _erased(
    campaign: Campaign, site: Site, people: pl.DataFrame, former: Mapping[str, str]
) -> set[str]:
    """Who was erased, under whichever key; the marks of raw ids outlive all keys."""
    marks = site.tombstones
    if not len(marks):
        return set()
    is_named = campaign.audience.file is not None
    found = {
        name
        for user, name in people.select("user", "pseudonym").iter_rows()
        if marks.has_pseudonym(bytes.fromhex(name)) or (is_named and marks.has_id(user))
    }
    return found | {
        name for before, name in former.items() if marks.has_pseudonym(bytes.fromhex(before))
    }


def _refusals(site: Site) -> tuple[set[str], set[str]]:
    """Who allows no mails, and who allows no personalization."""
    found: tuple[set[str], set[str]] = set(), set()
    for key, value in site.known.store.scan(CONSENT_PREFIX):
        consent, name = Consent.decode(value), key.removeprefix(CONSENT_PREFIX).hex()
        if not consent.email:
            found[0].add(name)
        if not consent.personalization:
            found[1].add(name)
    return found


def _merged(site: Site) -> set[str]:
    """The accounts that have become others, which are written to under their new name."""
    return {
        key.removeprefix(STATE_PREFIX).hex()
        for _, value in site.known.store.scan(SOURCES_PREFIX)
        for key in decode_sources(value)
        if key.startswith(STATE_PREFIX)
    }


def _suppressed(campaign: Campaign, site: Site) -> set[str]:
    path = campaign.audience.suppression
    if path is None:
        return set()
    listed = read_people(path, campaign.audience.user_column)
    keys = (site.known.pseudonymizer, site.known.former)
    names = (with_pseudonyms(listed, key)["pseudonym"] for key in keys if key is not None)
    return {name for one in names for name in one}


def _language(campaign: Campaign) -> pl.Expr:
    """The language of each mail: the user's own where there are texts in it."""
    if campaign.language != USERS_OWN:
        return pl.lit(campaign.language).alias("language")
    own = pl.col("language").fill_null("")
    known = own.map_elements(lambda one: language(one) in LANGUAGES, pl.Boolean)
    return pl.when(known).then(own).otherwise(pl.lit("en")).alias("language")


def _values(columns: Sequence[str]) -> pl.Expr:
    if not columns:
        return pl.lit([], pl.List(pl.String)).alias("variables")
    return pl.concat_list([pl.col(name).fill_null("") for name in columns]).alias("variables")

"""Whose events are whose, and which may be used: merges and consents applied to event tables.

Training and materialisation read users' events through here alone, so that an account or a
visit that was merged is one person in both, and who allows no personalization is in neither.
It knows the tables and no features. Who was erased is not in the tables: see `offline.erase`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from feature_store.durable import flush
from feature_store.events import Merge, Source
from feature_store.people import (
    CONSENT_PREFIX,
    TRAITS_PREFIX,
    Consent,
    Moved,
    consent_key,
    encode_traits,
    session_key,
    sources_key,
    traits_key,
)
from feature_store.schema import MERGES, EventKind
from feature_store.state import state_key
from feature_store.store import OnlineStore, Record
from offline.ingest.tables import (
    TIME,
    instant,
    polars_schema,
    scan_audiences,
    scan_events,
    scan_table,
    scan_users,
    table_path,
)

KEYS_AT_ONCE: Final = 2_000
MAX_CHAIN: Final = 64
"""How often an account may have been merged on. Only damaged tables hold a longer chain."""


def merge_table(merges: list[Merge]) -> pl.DataFrame:
    """Merges as rows of the canonical table."""
    given = pl.Schema({**polars_schema(MERGES), "merge_time": pl.Int64()})
    rows = [tuple(getattr(one, name) for name in MERGES.names) for one in merges]
    return pl.DataFrame(rows, given, orient="row").with_columns(pl.col("merge_time").cast(TIME))


def store_merges(tables: Path, given: pl.DataFrame, folder: Path) -> None:
    """Add merges to the table, durably; the earliest of a source stays.

    A draft is written in `folder`, on the same disk.
    """
    stored = scan_table(tables, MERGES, optional=True).collect()
    rows = pl.concat([stored, given]).sort("merge_time", maintain_order=True)
    draft, path = folder / f"{MERGES.name}.parquet", table_path(tables, MERGES)
    rows.unique(MERGES.key, keep="first").sort(MERGES.key).write_parquet(draft)
    flush(draft)
    draft.replace(path)
    flush(tables)


def read_merges(tables: Path) -> pl.DataFrame:
    """The merges, `target` being who has it all today after later merges."""
    merges = scan_table(tables, MERGES, optional=True).collect()
    accounts = merges.filter(pl.col("kind") == Source.USER.value)
    step = accounts.select(target="source", later="target")
    for _ in range(MAX_CHAIN):
        moved = merges.join(step, on="target", how="left", maintain_order="left")
        after = moved["later"].fill_null(merges["target"]).alias("target")
        if after.equals(merges["target"]):
            break
        merges = merges.with_columns(after)
    return merges


def scan_user_events(
    tables: Path, start_time: int | None = None, end_time: int | None = None
) -> pl.LazyFrame:
    """The events of known users that may be used, `user` being who they are today; in no order.

    Of the visits, only those that were merged before `end_time` (microseconds UTC, None: ever)
    are a user's: what is known later must not be known now. Raises TablesMissingError.
    """
    events = scan_allowed_events(tables, start_time, end_time)
    return events.filter(pl.col("user").is_not_null())


def scan_allowed_events(
    tables: Path, start_time: int | None = None, end_time: int | None = None
) -> pl.LazyFrame:
    """As `scan_user_events`, with those of visits of nobody known; their `user` is null."""
    events = scan_events(tables, start_time, end_time)
    merges = read_merges(tables)
    if len(merges):
        events = _attributed(events, merges, end_time)
    refused = read_consents(tables).filter(~pl.col("personalization")).select("user")
    return events.join(refused.lazy(), on="user", how="anti") if len(refused) else events


def read_consents(tables: Path) -> pl.DataFrame:
    """What users refuse: user, personalization and email, of those who do not allow both.

    An `unsubscribe` refuses mails until the users table says otherwise of a later time.
    """
    users = scan_users(tables).select(
        "user",
        personalization=pl.col("consent_personalization").fill_null(value=True),
        email=pl.col("consent_email").fill_null(value=True),
        time=pl.col("consent_time"),
    )
    merges = read_merges(tables)
    left = scan_events(tables).filter(pl.col("kind") == EventKind.UNSUBSCRIBE.value)
    if len(merges):
        accounts = _accounts(merges)
        left = _attributed(left, merges, None)
        users = users.join(accounts, left_on="user", right_on="source", how="left").with_columns(
            user=pl.coalesce("target", "user")
        )
    left = left.filter(pl.col("user").is_not_null())
    latest = left.group_by("user").agg(pl.col("event_time").max().alias("left_time"))
    known = users.group_by("user").agg(
        pl.col("personalization").all(), pl.col("email").all(), pl.col("time").max()
    )
    both = known.join(latest, on="user", how="full", coalesce=True)
    stays = pl.col("left_time").is_null() | (pl.col("time") > pl.col("left_time")).fill_null(
        value=False
    )
    return (
        both.select(
            "user",
            personalization=pl.col("personalization").fill_null(value=True),
            email=pl.col("email").fill_null(value=True) & stays,
        )
        .filter(~(pl.col("personalization") & pl.col("email")))
        .sort("user")
        .collect()
    )


def _attributed(events: pl.LazyFrame, merges: pl.DataFrame, end_time: int | None) -> pl.LazyFrame:
    """The events with the users whom visits and accounts became."""
    visits = merges.filter(pl.col("kind") == Source.SESSION.value)
    if end_time is not None:
        visits = visits.filter(pl.col("merge_time") < instant(end_time))
    became = visits.lazy().select(session="source", became="target")
    columns = events.collect_schema().names()
    return (
        events.join(became, on="session", how="left")
        .with_columns(user=pl.coalesce("user", "became"))
        .join(_accounts(merges), left_on="user", right_on="source", how="left")
        .with_columns(user=pl.coalesce("target", "user"))
        .select(columns)
    )


def _accounts(merges: pl.DataFrame) -> pl.LazyFrame:
    accounts = merges.filter(pl.col("kind") == Source.USER.value)
    return accounts.lazy().select("source", "target")


def write_people(tables: Path, store: OnlineStore) -> None:
    """Write into the store what users allow, their traits and who became whom, as the tables say.

    What the tables do not say any more is deleted, and so is the state of who allows no
    personalization. Running it again gives the same store.
    """
    consents = {
        consent_key(bytes.fromhex(user)): Consent(personalization, email)
        for user, personalization, email in read_consents(tables).iter_rows()
    }
    outdated = [key for key, _ in store.scan(CONSENT_PREFIX) if key not in consents]
    refused = [
        state_key(key.removeprefix(CONSENT_PREFIX))
        for key, consent in consents.items()
        if not consent.personalization
    ]
    _delete(store, [*outdated, *refused])
    records = ((key, consent.encode()) for key, consent in consents.items())
    store.put_many((key, value) for key, value in records if value is not None)
    _write_traits(tables, store)
    merges = read_merges(tables)
    if len(merges):
        store.put_many(_merge_records(merges, scan_events(tables)))


def read_traits(tables: Path) -> pl.DataFrame:
    """What the shop says of users: user and `traits`, of those who allow personalization.

    `segment`, `region`, `language` and the attributes of the users table, and the campaigns that
    they were chosen for, each as `field=value`; an account has those of what was merged into it.
    """
    users = scan_users(tables)
    named = [
        users.select("user", trait=pl.format("{}={}", pl.lit(name), name))
        for name in ("segment", "region", "language")
    ]
    attributes = users.select("user", trait="attributes").explode("trait", empty_as_null=True)
    chosen = scan_audiences(tables).select("user", trait=pl.format("campaign={}", "campaign"))
    rows = pl.concat([*named, attributes, chosen]).drop_nulls()
    merges = read_merges(tables)
    if len(merges):
        accounts = _accounts(merges)
        rows = rows.join(accounts, left_on="user", right_on="source", how="left").select(
            "trait", user=pl.coalesce("target", "user")
        )
    refused = read_consents(tables).filter(~pl.col("personalization")).select("user")
    known = rows.join(refused.lazy(), on="user", how="anti") if len(refused) else rows
    return known.group_by("user").agg(traits="trait").sort("user").collect()


def _write_traits(tables: Path, store: OnlineStore) -> None:
    traits = {
        traits_key(bytes.fromhex(user)): encode_traits(given)
        for user, given in read_traits(tables).iter_rows()
    }
    _delete(store, [key for key, _ in store.scan(TRAITS_PREFIX) if key not in traits])
    store.put_many(traits.items())


def _delete(store: OnlineStore, keys: list[bytes]) -> None:
    for start in range(0, len(keys), KEYS_AT_ONCE):
        store.update_many(keys[start : start + KEYS_AT_ONCE], lambda values: [None] * len(values))


def _merge_records(merges: pl.DataFrame, events: pl.LazyFrame) -> Iterator[Record]:
    """A note in the place of each state that was merged, and each user's list of them."""
    visits = events.filter(pl.col("user").is_null()).group_by(source="session").agg(num=pl.len())
    users = events.group_by(source="user").agg(num=pl.len())
    sources = merges.lazy().select("source")
    numbers = {
        (kind, source): num
        for kind, rows in ((Source.SESSION, visits), (Source.USER, users))
        for source, num in rows.join(sources, on="source", how="semi").collect().iter_rows()
    }
    lists: dict[bytes, list[bytes]] = {}
    times = merges.with_columns(pl.col("merge_time").dt.epoch("us"))
    for kind, source, target, time in times.iter_rows():
        key = state_key if kind == Source.USER else session_key
        place, user = key(bytes.fromhex(source)), bytes.fromhex(target)
        yield place, Moved(user, time, numbers.get((kind, source), 0)).encode()
        lists.setdefault(user, []).append(place)
    yield from ((sources_key(user), b"".join(places)) for user, places in lists.items())

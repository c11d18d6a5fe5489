"""Event ids are stable, and a raw id of a person reaches no file."""

import hashlib
import hmac
import struct
from collections.abc import Callable

from offline.ingest.files import find_sources
from offline.ingest.job import IngestJob, ingest
from offline.ingest.mapping import CsvFormat
from tests.offline.ingest.conftest import KEY, Shop

Make = Callable[..., dict[str, object]]


def test_an_event_id_is_the_hash_of_what_the_row_says(shop: Shop, purchase: Make) -> None:
    shop.ingest([purchase(price="2.50")])
    user = hmac.digest(KEY, b"anna", "sha256").hex()
    one, price = (struct.unpack("<I", struct.pack("<f", number))[0] for number in (1.0, 2.5))
    content = "\x1f".join(
        [
            "event_time=1772359200000000",
            f"user={user}",
            "kind=purchase",
            "corpus=product",
            "item=kettle",
            f"quantity={one}",
            f"price={price}",
        ]
    )
    expected = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    assert shop.events()["event_id"].to_list() == [expected]


def test_identical_rows_are_numbered(shop: Shop, purchase: Make) -> None:
    count = shop.ingest([purchase(), purchase(), purchase(item="bowl"), purchase()]).table("events")
    assert (count.num_accepted, count.num_duplicates) == (4, 0)
    ids = shop.events().filter(item="kettle")["event_id"].to_list()
    first = min(ids, key=len)
    assert sorted(ids) == [first, f"{first}-1", f"{first}-2"]


def test_ids_do_not_depend_on_order_or_format(shop: Shop, purchase: Make) -> None:
    rows = [purchase(item=str(number % 7), quantity=number % 3) for number in range(40)]
    shop.ingest(rows)
    once = shop.events()
    shop.ingest(rows[::-1], name="again.parquet")
    assert shop.events().equals(once)


def test_a_given_event_id_is_kept(shop: Shop, purchase: Make) -> None:
    shop.ingest([purchase(event_id="e1"), purchase(event_id=None)])
    assert "e1" in shop.events()["event_id"].to_list()


def test_users_and_sessions_become_pseudonyms(shop: Shop, purchase: Make) -> None:
    shop.ingest([purchase(session="s1"), purchase(user=None, session="anna")])
    shop.ingest([{"user": "anna", "segment": "a"}], table="users", name="users.csv")
    anna = hmac.digest(KEY, b"anna", "sha256").hex()
    assert set(shop.events()["user"].drop_nulls()) == {anna}
    assert anna in set(shop.events()["session"])


def test_pseudonyms_stay_what_they_are(shop: Shop, purchase: Make) -> None:
    pseudonym = hmac.digest(KEY, b"anna", "sha256").hex()
    (source,) = find_sources(str(shop.write("log.csv", [purchase(user=pseudonym)])), CsvFormat())
    ingest(IngestJob({"events": [source]}, shop.out), pseudonymizer=None)
    assert shop.events()["user"].to_list() == [pseudonym]
    shop.ingest([purchase()], name="export.csv")
    assert len(shop.events()) == 1


def test_no_file_holds_a_raw_id(shop: Shop, purchase: Make) -> None:
    """Uncompressed copies of all tables are searched for the ids, as a thief would."""
    user, session = "raw-user-4711", "raw-session-0815"
    good = purchase(user=user, session=session)
    shop.ingest([good, {**good, "quantity": -1}, {**good, "event_time": "never"}])
    shop.ingest([{"user": user, "consent_email": "?"}, {"user": user}], table="users")
    stored = [shop.events(), shop.quarantine(), shop.quarantine("users")]
    text = "".join(frame.write_csv() for frame in stored if not frame.is_empty())
    everything = text.encode() + b"".join(shop.files().values())
    assert user.encode() not in everything
    assert session.encode() not in everything

"""The online store reflects each event once: from scratch, day by day, late, live, and killed."""

import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_store.event_log import EventLog
from feature_store.events import Event, Merge
from feature_store.features import update
from feature_store.ids import hash64_many
from feature_store.people import Consent, consent_key
from feature_store.schema import MICROSECONDS_PER_DAY as DAY
from feature_store.state import EMPTY, STATE_PREFIX, UserState, state_key
from feature_store.store import MemoryStore, OnlineStore, open_store
from offline import by_user, increments
from offline.compact import compact
from offline.increments import PLAN, Done, How, Site, bring_up
from offline.materialize import materialize
from offline.progress import QUIET
from online.feedback.changes import _columns, apply
from online.feedback.intake import Feedback

SPAWN = multiprocessing.get_context("spawn")
START = 1_700_006_400_000_000  # 2023-11-15
NOW = START + 100 * DAY
KINDS = ("purchase", "view", "like", "impression", "cart_add", "search")


def user(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" * 4


def events(days: Sequence[int], num: int, seed: int, num_users: int = 30) -> list[Event]:
    """Events of some users on these days."""
    dice = random.Random(seed)
    return [
        Event(
            event_id=f"{seed}-{number}",
            event_time=START + dice.choice(days) * DAY + dice.randrange(DAY),
            user=user(dice.randrange(num_users)),
            kind=dice.choice(KINDS),
            item=f"i{dice.randrange(20)}",
            price=2.0,
            basket=f"b{dice.randrange(50)}",
        )
        for number in range(num)
    ]


def put_in_tables(tables: Path, given: Sequence[Event], folder: Path) -> None:
    """As an ingestion of a file: the events get no arrival."""
    log = EventLog(folder, 0)
    log.append(given, NOW)
    log.close()
    compact(folder, tables, NOW)
    for path in (tables / "arrivals").rglob("*.parquet"):
        if not path.name.startswith("worker-007"):
            path.unlink()


def states(store: OnlineStore) -> dict[bytes, UserState]:
    return {key: UserState.decode(value) for key, value in store.scan(STATE_PREFIX)}


def expected(given: Sequence[Event]) -> dict[bytes, UserState]:
    """What the events make of nothing, user by user."""
    made = {}
    for name in {event.user for event in given}:
        own = sorted((e for e in given if e.user == name), key=lambda e: (e.event_time, e.event_id))
        batch = _columns(own, [0] * len(own))
        made[state_key(bytes.fromhex(name))] = update([EMPTY], batch)[0]
    return made


def assert_holds(store: OnlineStore, given: Sequence[Event]) -> None:
    """The store holds exactly what these events make."""
    found, wanted = states(store), expected(given)
    assert found.keys() == wanted.keys()
    for key, state in wanted.items():
        for field in ("items", "recent", "shown", "baskets", "totals"):
            one, other = getattr(found[key], field), getattr(state, field)
            assert len(one) == len(other), field
            for name in one.dtype.names:
                np.testing.assert_allclose(one[name], other[name], rtol=1e-4, err_msg=name)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(MemoryStore(), tmp_path / "tables", tmp_path / "log", tmp_path / "work")


@pytest.fixture
def ingest(site: Site, tmp_path: Path) -> Callable[[Sequence[Event]], None]:
    """Puts events into the site's tables."""
    count = iter(range(100))
    return lambda given: put_in_tables(site.tables, given, tmp_path / f"file-{next(count)}")


def hows(done: list[Done]) -> list[How]:
    return [one.how for one in done]


Ingest = Callable[[Sequence[Event]], None]


def test_the_first_time_makes_everybody(site: Site, ingest: Ingest) -> None:
    given = events(range(5), 600, seed=1)
    ingest(given)
    assert hows(bring_up(site, NOW, QUIET)) == [How.FULL]
    assert_holds(site.store, given)
    assert bring_up(site, NOW, QUIET) == []
    assert not site.work.exists()


def test_new_days_are_applied_to_what_is_there(site: Site, ingest: Ingest) -> None:
    old, new = events(range(5), 600, seed=1), events((5, 6), 200, seed=2)
    ingest(old)
    bring_up(site, NOW, QUIET)
    ingest(new)
    (done,) = bring_up(site, NOW, QUIET)
    assert (done.how, done.num_events) == (How.NEW_DAYS, 200)
    assert_holds(site.store, [*old, *new])


def test_a_day_that_has_grown_makes_its_users_anew(site: Site, ingest: Ingest) -> None:
    old, late = events(range(5), 600, seed=1), events((2, 5), 40, seed=2, num_users=3)
    ingest(old)
    bring_up(site, NOW, QUIET)
    ingest(late)
    (done,) = bring_up(site, NOW, QUIET)
    assert done.how is How.AFFECTED
    assert_holds(site.store, [*old, *late])


def test_what_the_server_has_applied_is_neither_lost_nor_doubled(
    site: Site, ingest: Ingest
) -> None:
    """Live events of very active users: more than the ids that a state remembers."""
    old, live = events(range(5), 300, seed=1), events((4, 5), 2_000, seed=2, num_users=2)
    ingest(old)
    bring_up(site, NOW, QUIET)
    with (
        closing(EventLog(site.event_log, 7)) as log,
        closing(Feedback(log, site.store)) as feedback,
    ):
        feedback.write(live, (), NOW).result()
        assert bring_up(site, NOW, QUIET) == []
        bring_up(site, NOW, QUIET, full=True)
        assert_holds(site.store, [*old, *live])
        compact(site.event_log, site.tables, NOW)
        assert bring_up(site, NOW, QUIET) == []
        later = events((5, 6), 500, seed=3)
        feedback.write(later, (), NOW).result()
        ingest(nightly := events((6, 7), 100, seed=4))
        bring_up(site, NOW, QUIET)
        assert_holds(site.store, [*old, *live, *later, *nightly])


def test_events_that_come_while_states_are_made_stay(
    site: Site, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between cutting the files and the first chunk, the server goes on."""
    old, live = events(range(5), 300, seed=1), events((4, 5), 400, seed=2)
    ingest(old)
    with closing(EventLog(site.event_log, 0)) as log:
        carry_out = increments._carry_out

        def later(*arguments: object) -> Done:
            log.append(live, NOW)
            apply(live, site.store)
            return carry_out(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(increments, "_carry_out", later)
        bring_up(site, NOW, QUIET)
    assert_holds(site.store, [*old, *live])


def test_a_merged_users_events_are_the_targets(site: Site, ingest: Ingest) -> None:
    given = events(range(3), 300, seed=1, num_users=4)
    ingest([replace(e, user="", session=e.user) if e.user == user(3) else e for e in given])
    with closing(EventLog(site.event_log, 0)) as log:
        log.append_merge(Merge(kind="user", source=user(1), target=user(2), merge_time=NOW))
        log.append_merge(Merge(kind="session", source=user(3), target=user(1), merge_time=NOW))
    bring_up(site, NOW, QUIET)
    merged = [replace(e, user=user(2)) if e.user in (user(1), user(3)) else e for e in given]
    assert_holds(site.store, merged)


def test_who_refuses_or_was_erased_gets_no_state(site: Site, ingest: Ingest) -> None:
    given = events(range(3), 200, seed=1, num_users=3)
    ingest(given)
    refusing, erased = bytes.fromhex(user(0)), bytes.fromhex(user(1))
    refusal = Consent(personalization=False).encode() or b""
    site.store.put_many([(consent_key(refusing), refusal)])
    bring_up(replace(site, is_erased=lambda one: one == erased), NOW, QUIET)
    assert_holds(site.store, [e for e in given if e.user == user(2)])


def test_a_cut_in_time_and_many_files(
    site: Site, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_user, "ROWS_PER_FILE", 50)
    monkeypatch.setattr(by_user, "USERS_AT_ONCE", 2)
    given = events(range(5), 600, seed=1)
    ingest(given)
    end_time = START + 3 * DAY + 1_000
    num_users = materialize(site.tables, site.store, end_time, QUIET)
    known = [event for event in given if event.event_time < end_time]
    assert num_users == len({event.user for event in known})
    assert_holds(site.store, known)


def _bring_up_slowly(folder: Path) -> None:
    """In a process of its own, to be killed: few users at a time."""
    by_user.ROWS_PER_FILE, by_user.USERS_AT_ONCE = 200, 1  # type: ignore[misc]
    with closing(open_store(f"lmdb:{folder / 'store'}")) as store:
        bring_up(Site(store, folder / "tables", folder / "log", folder / "work"), NOW, QUIET)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_nothing_counts_twice(tmp_path: Path, seed: int) -> None:
    """Events of one user far exceed the ids that a state remembers, so `seen` cannot help."""
    dice = random.Random(seed)
    given = events(range(4), 1_500, seed=10, num_users=6)
    put_in_tables(tmp_path / "tables", given, tmp_path / "file-0")
    kill_some(tmp_path, dice)
    new = events((5, 6), 3_000, seed=11, num_users=6)
    put_in_tables(tmp_path / "tables", new, tmp_path / "file-1")
    kill_some(tmp_path, dice)
    with closing(open_store(f"lmdb:{tmp_path / 'store'}")) as store:
        assert_holds(store, [*given, *new])


def kill_some(folder: Path, dice: random.Random) -> None:
    """Run the job, killing it a few times at random moments, then to its end."""
    for _ in range(2):
        process = SPAWN.Process(target=_bring_up_slowly, args=(folder,))
        process.start()
        while process.is_alive() and not (folder / "work" / PLAN).exists():
            time.sleep(0.001)
        time.sleep(dice.random() * 0.03)
        process.kill()
        process.join()
    process = SPAWN.Process(target=_bring_up_slowly, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_keys_of_ids_are_those_of_the_server() -> None:
    (event,) = events([0], 1, seed=1)
    assert _columns([event], [0]).event.tolist() == hash64_many([event.event_id]).tolist()

"""Simulated sessions: what must never be shown is never shown, whatever shoppers do."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from feature_store.schema import EventKind
from online.placements import PLACEMENTS
from online.types import PurchaseMode, Slate
from tests.online.shops import MINUTE, TestShop, items, number, open_shop, pseudonym
from tests.worlds import HORIZON_TIME, NUM_ITEMS, NUM_USERS, UNAVAILABLE, World, item_id

RULES: tuple[dict[str, Any], ...] = (
    {"name": "never", "action": "block", "items": ["p31", "p32"]},
    {"name": "first", "action": "pin", "items": ["p33"], "slot": 2, "placements": ["home"]},
    {"name": "few", "action": "cap", "by": "brand", "count": 6, "placements": ["home", "cart"]},
    {"name": "more", "action": "boost", "filter": "tags:fresh", "factor": 3},
)
BLOCKED = {"p31", "p32", UNAVAILABLE}
NAMES = tuple(PLACEMENTS)


@dataclass
class Session:
    """One visit of a user: pages with what they asked for and what they showed."""

    user: int
    rng: np.random.Generator
    time: int
    shown: list[tuple[int, str]] = field(default_factory=list)

    def draw(self, most: int) -> tuple[str, ...]:
        size = int(self.rng.integers(0, most + 1))
        return tuple(item_id(int(one)) for one in self.rng.choice(NUM_ITEMS, size, replace=False))

    def lately(self, hours: float) -> set[str]:
        since = self.time - int(hours * 60 * MINUTE)
        return {item for time, item in self.shown if time > since}

    def visit(self, shop: TestShop, bought: dict[str, list[int]]) -> None:
        """A page, checked, and what it showed noted."""
        placement = NAMES[self.rng.integers(len(NAMES))]
        mode = tuple(PurchaseMode)[self.rng.integers(3)]
        asked: dict[str, Any] = {
            "request_time": self.time,
            "purchase_mode": mode,
            "exclude_items": self.draw(8),
            "context_items": self.draw(1),
            "basket_items": self.draw(3),
            "session_items": self.draw(4),
            "page_size": int(self.rng.integers(1, 25)),
            "filter": ("", "", "price < 9", "tags:fresh OR tags:bulk")[self.rng.integers(4)],
            "diversity": (None, 0.0, 0.5, 1.0)[self.rng.integers(4)],
            "explores": bool(self.rng.integers(2)),
        }
        slate = shop.ask(self.user, placement, **asked)
        allowed = self._check(slate, placement, asked, bought)
        self._check_length(slate, placement, asked, allowed)
        assert shop.ask(self.user, placement, **asked).items == slate.items
        if PLACEMENTS[placement].tires:
            shop.show(slate, self.user, self.time)
            self.shown += [(self.time, item) for item in items(slate)]
        self.time += int(self.rng.integers(1, 40)) * MINUTE

    def _check(
        self, slate: Slate, placement: str, asked: dict[str, Any], bought: dict[str, list[int]]
    ) -> set[str]:
        """What is shown is allowed; returns all that is."""
        row = PLACEMENTS[placement]
        banned = BLOCKED | set(asked["exclude_items"])
        if row.hides_context:
            banned |= {*asked["context_items"], *asked["basket_items"]}
        if row.hides_seen:
            banned |= set(asked["session_items"])
        if row.fatigue is not None and not row.fatigue.factor:
            banned |= self.lately(row.fatigue.hours)
        if row.waits_until_due and asked["purchase_mode"] is not PurchaseMode.NEW_ONLY:
            banned |= {item for item, times in bought.items() if is_early(times, self.time)}
        allowed = {item_id(one) for one in range(NUM_ITEMS) if passes(one, asked["filter"])}
        if asked["purchase_mode"] is PurchaseMode.NEW_ONLY:
            banned |= bought.keys()
        if asked["purchase_mode"] is PurchaseMode.REPEAT_ONLY:
            allowed &= bought.keys()
        allowed -= banned
        shown = items(slate)
        assert len(shown) == len(set(shown))
        assert set(shown) <= allowed, (placement, asked)
        assert not slate.degraded
        return allowed

    def _check_length(
        self, slate: Slate, placement: str, asked: dict[str, Any], allowed: set[str]
    ) -> None:
        """Never short, pins on their slots, caps never exceeded."""
        shown = items(slate)
        wanted = min(asked["page_size"], len(allowed))
        if placement == "home" and "p33" in allowed and wanted >= 2:
            assert shown[1] == "p33"
        if placement in ("home", "cart"):
            brands = np.bincount([number(item) % 3 for item in shown], minlength=3)
            assert brands.max() <= 6
            room = np.bincount([number(item) % 3 for item in allowed], minlength=3)
            wanted = min(wanted, int(np.minimum(room, 6).sum()))
        assert len(shown) == wanted, (placement, asked)


def passes(one: int, text: str) -> bool:
    fits = {"": True, "price < 9": 1 + one / 4 < 9}
    return fits.get(text, one % 7 == 0 or one % 4 == 0)


def is_early(times: list[int], time: int) -> bool:
    """Whether what was bought at these times is not due again: 0.8 of its interval, or 30 days."""
    pairs = itertools.pairwise(times)
    gaps = [later - earlier for earlier, later in pairs] or [30 * 1_440 * MINUTE]
    return time - times[-1] < 0.8 * float(np.mean(gaps))


def sessions(num: int, seed: int) -> Iterator[Session]:
    rng = np.random.default_rng(seed)
    for one in range(num):
        # A day apart, so that no session is still tired of another's.
        yield Session(one % NUM_USERS, rng, HORIZON_TIME + one * 1_440 * MINUTE)


def play(world: World, num: int, seed: int) -> None:
    shop = open_shop(world, *RULES)
    for session in sessions(num, seed):
        bought: defaultdict[str, list[int]] = defaultdict(list)
        for one in world.purchases:
            if one.user == session.user:
                bought[item_id(one.item)].append(one.time)
        for _ in range(3):
            session.visit(shop, bought)


def test_sessions_keep_every_promise(pristine_world: World) -> None:
    play(pristine_world, 150, seed=1)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_sessions_keep_every_promise(pristine_world: World, seed: int) -> None:
    play(pristine_world, 2_500, seed=100 + seed)


def test_what_was_shown_comes_back_after_its_time(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    first = shop.ask(3, "new_arrivals", page_size=10)
    shop.show(first, 3, HORIZON_TIME)
    later = HORIZON_TIME + 59 * MINUTE
    second = shop.ask(3, "new_arrivals", page_size=10, request_time=later)
    assert not set(items(first)) & set(items(second))
    after = shop.ask(3, "new_arrivals", page_size=10, request_time=HORIZON_TIME + 61 * MINUTE)
    assert set(items(after)) == set(items(first))
    assert items(shop.ask(4, "new_arrivals", page_size=10)) != items(second)


def test_a_mail_does_not_repeat_the_last_one(pristine_world: World) -> None:
    shop = open_shop(pristine_world)
    mail = shop.ask(3, "email", page_size=8)
    shop.show(mail, 3, HORIZON_TIME, EventKind.MAIL_SENT)
    day = 1_440 * MINUTE
    after_page = shop.ask(3, "email", page_size=8, request_time=HORIZON_TIME + day)
    assert not set(items(mail)) & set(items(after_page))
    assert pseudonym(3) != pseudonym(4)


def test_the_session_of_a_stranger_tires_too(pristine_world: World) -> None:
    from feature_store.events import Event
    from online.feedback.changes import apply

    shop = open_shop(pristine_world)
    who = b"s" * 32
    first = shop.ask(None, "new_arrivals", page_size=5, session=who)
    shown = [
        Event(
            event_id=item,
            event_time=HORIZON_TIME,
            session=who.hex(),
            kind=EventKind.IMPRESSION,
            item=item,
        )
        for item in items(first)
    ]
    apply(shown, shop.store)
    second = shop.ask(None, "new_arrivals", page_size=5, session=who)
    assert not set(items(first)) & set(items(second))

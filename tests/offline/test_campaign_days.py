"""A campaign every day: what must never happen to anybody's mailbox does not.

Everything is kept account of naively, from what was sent alone, beside the tables and the store.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from offline.campaigns.mailed import TOKEN, take_in
from offline.campaigns.report import report
from offline.home import Home
from tests.offline.campaigns import build_shop, campaign, export, pseudonym
from tests.worlds import HORIZON_TIME, World, user_id

DAY = 86_400_000_000
CAPS = ((1, 1.0), (3, 7.0))
NO_REPEAT_DAYS = 9
HELD_SHARE = 0.1


@dataclass
class Year:
    """The days, and what everybody got on each."""

    world: World
    folder: Path
    num_users: int
    rng: np.random.Generator
    suppressed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    mails: dict[str, list[tuple[int, set[str]]]] = field(default_factory=lambda: defaultdict(list))

    def play(self, num_days: int) -> int:
        """Export each day, send most of it, and check; how many mails were sent."""
        users = [user_id(n) for n in range(self.num_users)]
        (self.folder / "people.csv").write_text("\n".join(["id", *users]) + "\n")
        self.suppressed = set(self.rng.choice(users, self.num_users // 20, replace=False))
        (self.folder / "suppressed.csv").write_text("\n".join(["id", *self.suppressed]) + "\n")
        return sum(self.day(number) for number in range(num_days))

    def day(self, number: int) -> int:
        time = HORIZON_TIME + number * DAY + int(self.rng.integers(DAY // 20))
        out = self.folder / f"day-{number}"
        folder = export(
            self.world, campaign(self.folder, self.text(number, time)), out, people_per_part=1_000
        )
        rows = folder.scan_mails().select("user", "item", TOKEN).collect()
        slates = rows.group_by("user", TOKEN).agg("item").iter_rows()
        left = pl.read_parquet(out / "left-out-*.parquet")
        held = set(left.filter(pl.col("reason") == "hold_out")["user"])
        self.held |= held
        sent = [
            (user, token, items)
            for user, token, items in slates
            if self.check(user, items, time) and self.rng.random() < 0.9
        ]
        self.send(number, time, sent)
        return len(sent)

    def text(self, number: int, time: int) -> str:
        moment = datetime.fromtimestamp(time / 1e6, UTC).isoformat(timespec="microseconds")
        caps = "".join(f"[[caps]]\nmails = {mails}\ndays = {days}\n" for mails, days in CAPS)
        return (
            f'campaign = "day-{number % 3}"\nsend_time = "{moment}"\n'
            f"no_repeat_days = {NO_REPEAT_DAYS}\n"
            '[audience]\nfile = "people.csv"\nuser_column = "id"\nsuppression = "suppressed.csv"\n'
            f"[slots]\nproducts = 3\n[hold_out]\nshare = {HELD_SHARE}\n{caps}"
        )

    def check(self, user: str, items: list[str], time: int) -> bool:
        """Whether somebody may get this mail; always true, or the test has failed."""
        assert user not in self.suppressed
        assert user not in self.gone
        assert user not in self.held
        assert len(set(items)) == len(items) > 0
        for mails, days in CAPS:
            before = [one for one, _ in self.mails[user] if one > time - days * DAY]
            assert len(before) < mails
        for sent, shown in self.mails[user]:
            assert sent <= time - NO_REPEAT_DAYS * DAY or not shown & set(items)
        return True

    def send(self, number: int, time: int, sent: list[tuple[str, str, list[str]]]) -> None:
        """A file of the mail tool: most mails go out, a few people have enough of them."""
        when = datetime.fromtimestamp(time / 1e6, UTC).isoformat()
        lines = [f"{TOKEN},kind,event_time"]
        for user, token, items in sent:
            self.mails[user].append((time, set(items)))
            lines.append(f"{token},sent,{when}")
            if self.rng.random() < 0.02:
                self.gone.add(user)
                lines.append(f"{token},unsubscribe,{when}")
        file = self.folder / f"sent-{number}.csv"
        file.write_text("\n".join(lines) + "\n")
        home = Home(self.world.home, self.world.store_url, None)
        taken = take_in(home, self.folder / f"day-{number}", file, time)
        assert taken.num_mails == len(sent)
        assert taken.num_foreign == 0


def play(folder: Path, num_users: int, num_days: int) -> Year:
    world = build_shop(folder / "home")
    year = Year(world, folder, num_users, np.random.default_rng(23))
    num_sent = year.play(num_days)
    # Three mails a week and two days' pause would be 3/7 of all days; there is enough to say.
    assert num_sent > 0.25 * num_users * num_days
    share = len(year.held) / (num_users - len(year.suppressed))
    assert abs(share - HELD_SHARE) < 4 * (HELD_SHARE / num_users) ** 0.5
    return year


def test_some_days(tmp_path: Path) -> None:
    year = play(tmp_path, 60, 8)
    assert year.gone
    (arm, held) = report(tmp_path / "day-1", year.world.home / "tables")
    assert (arm.arm, held.arm) == ("all", "hold_out")
    assert arm.mails["sent"] > 0
    assert arm.mails["sent"] <= arm.mails["mails"]
    assert held.outcome.num_people > 0


@pytest.mark.prove
def test_thirty_days(tmp_path: Path) -> None:
    play(tmp_path, 10_000, 30)


def test_what_was_never_sent_costs_nothing(tmp_path: Path) -> None:
    world = build_shop(tmp_path / "home")
    text = "campaign = 'a'\n[[caps]]\nmails = 1\ndays = 30\n"
    first = export(world, campaign(tmp_path, text), tmp_path / "first").scan_mails().collect()
    second = export(world, campaign(tmp_path, text), tmp_path / "second").scan_mails().collect()
    assert first.equals(second)
    home = Home(world.home, world.store_url, None)
    token = first.filter(pl.col("pseudonym") == pseudonym(4))[TOKEN][0]
    (tmp_path / "sent.csv").write_text(f"{TOKEN}\n{token}\nforeign\n")
    taken = take_in(home, tmp_path / "first", tmp_path / "sent.csv", HORIZON_TIME)
    again = take_in(home, tmp_path / "first", tmp_path / "sent.csv", HORIZON_TIME)
    assert taken == again
    assert (taken.num_mails, taken.num_foreign) == (1, 1)
    third = export(world, campaign(tmp_path, text), tmp_path / "third").scan_mails().collect()
    others = first.filter(pl.col("pseudonym") != pseudonym(4))
    same = ["user", "rank", "item", "reason_text", TOKEN]
    assert third.select(same).equals(others.select(same))
    assert third["score"].to_list() == pytest.approx(others["score"].to_list(), abs=1e-5)

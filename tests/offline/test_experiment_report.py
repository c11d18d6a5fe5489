"""The report of an experiment: counts, intervals, who is left out, and how often intervals hold."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from feature_store.events import Event, Exposure, Merge
from feature_store.schema import MICROSECONDS_PER_DAY, EventKind
from offline.__main__ import main
from offline.errors import ExperimentError
from offline.experiment_report import difference, report, share_of
from offline.exposures import exposure_table, merge_exposures
from offline.people import merge_table, store_merges
from tests.offline.campaigns import take_in

TIME = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1_000_000
DAY = MICROSECONDS_PER_DAY


def person(number: int) -> str:
    return f"{number:064x}"


def shown(token: str, arm: str, number: int, day: int = 0, session: str = "") -> Exposure:
    return Exposure(
        attribution_token=token,
        request_time=TIME + day * DAY,
        user="" if session else person(number),
        session=session,
        placement="home",
        items=("a", "b"),
        corpora=("product", "product"),
        propensities=(1.0, 1.0),
        model_version="m",
        arm=arm,
    )


def did(kind: EventKind, number: int, day: int, token: str = "", price: float = 0.0) -> Event:
    return Event(
        event_id=f"{kind}{number}{day}{token}{price}",
        event_time=TIME + day * DAY + 1,
        user=person(number),
        kind=kind,
        item="a",
        price=price or None,
        attribution_token=token,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three people in arm a, two in b, one in both, and another experiment."""
    events = [
        did(EventKind.CLICK, 1, 0, "a1"),
        did(EventKind.CLICK, 1, 1, "a1"),
        did(EventKind.PURCHASE, 1, 1, "a1", 3.0),
        did(EventKind.PURCHASE, 1, 40, "", 100.0),
        did(EventKind.PURCHASE, 2, 2, "", 5.0),
        did(EventKind.PURCHASE, 2, -2, "", 7.0),
        did(EventKind.CLICK, 4, 0, "b1"),
        did(EventKind.CLICK, 4, 0, "b2"),
        did(EventKind.CLICK, 6, 0, "o"),
    ]
    take_in(tmp_path, events)
    tables = tmp_path / "tables"
    exposures = [
        *(shown(f"a{n}", "variety/a", 1) for n in range(4)),
        shown("a8", "variety/a", 2),
        shown("a9", "variety/a", 3),
        *(shown(f"b{n}", "variety/b", 4) for n in range(3)),
        shown("b9", "variety/b", 0, session=person(50)),
        *(shown(f"s{arm}", f"variety/{arm}", 7) for arm in "ab"),
        shown("o", "variety2/a", 6),
        shown("n", "", 8),
    ]
    merge_exposures(tables, exposure_table(exposures), tmp_path)
    return tmp_path


def test_what_is_counted(home: Path) -> None:
    told = report(home / "tables", "variety", "a")
    first, second = told.arms
    assert (first.arm, second.arm, told.num_in_several) == ("a", "b", 1)
    assert (first.people.num_people, first.num_answers) == (3, 6)
    assert first.clicked.value == pytest.approx(1 / 6)
    assert first.bought.value == pytest.approx(1 / 6)
    assert (first.people.num_buyers, first.people.spend) == (2, 8.0)
    assert (second.people.num_people, second.num_answers) == (2, 4)
    assert second.clicked.value == 0.5
    assert second.more_clicked is not None
    assert second.more_clicked.value == pytest.approx(1 / 2 - 1 / 6)
    assert second.more_spend is not None
    assert second.more_spend.value == pytest.approx(-8 / 3)
    assert first.more_clicked is None


def test_days_and_the_arm_to_compare_with(home: Path) -> None:
    told = report(home / "tables", "variety", "b", days=60)
    assert [one.arm for one in told.arms] == ["b", "a"]
    assert told.arms[1].people.spend == 108.0


def test_who_became_somebody_else_is_one_person(home: Path) -> None:
    merge = Merge(kind="session", source=person(50), target=person(4), merge_time=TIME)
    store_merges(home / "tables", merge_table([merge]), home)
    second = report(home / "tables", "variety", "a").arms[1]
    assert (second.people.num_people, second.num_answers) == (1, 4)


def test_names_that_there_are_not(home: Path) -> None:
    with pytest.raises(ExperimentError, match="no exposure names the experiment nothing"):
        report(home / "tables", "nothing", "a")
    with pytest.raises(ExperimentError, match="no arm c was shown, only: a, b"):
        report(home / "tables", "variety", "c")


def test_the_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = home / "report.json"
    words = ["experiment-report", "--home", str(home), "--against", "b", "--experiment", "variety"]
    assert main([*words, "--json", str(out)]) == 0
    told = json.loads(out.read_text())
    assert [one["arm"] for one in told["arms"]] == ["b", "a"]
    assert "1 people in several arms" in capsys.readouterr().out
    assert main([*words[:-1], "nothing"]) == 2


def test_the_arm_to_compare_with_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exposures do not say which arm is as things were: not the first by name."""
    with pytest.raises(SystemExit):
        main(["experiment-report", "--home", str(home), "--experiment", "variety"])
    assert "required: --against" in capsys.readouterr().err


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """People differ in how often they come and click: intervals over answers would be too short."""
    rng = np.random.default_rng(4)
    held = narrow = 0
    for _ in range(400):
        rates = []
        for _ in range(2):
            answers = rng.geometric(0.1, 300)
            hits = rng.binomial(answers, rng.beta(0.5, 2, 300))
            rates.append(share_of(pl.DataFrame({"answers": answers, "clicked": hits}), "clicked"))
        lift = difference(*rates)
        held += lift.low <= 0 <= lift.high
        total = float(answers.sum())
        narrow += abs(lift.value) <= 1.96 * np.sqrt(2 * 0.2 * 0.8 / total)
    assert 0.92 <= held / 400 <= 0.98
    assert narrow / 400 < 0.8

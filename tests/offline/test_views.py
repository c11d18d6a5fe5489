"""The table of features is made from the declarations."""

import pytest

from feature_store.ranking import RATED_SOURCES
from feature_store.views import all_views
from offline.__main__ import main


def test_the_command_prints_each_feature_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "--markdown"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names == [view.name for view in all_views(RATED_SOURCES)]


def test_a_row_says_what_counts_and_for_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    main(["features", "--markdown"])
    rows = capsys.readouterr().out.splitlines()
    assert "| decayed_30 | user x item | read | purchase | half-life 30 d | float32 | 0 |" in rows
    assert "| promo | item | bundle | promotions | for ever | float32 | - |" in rows

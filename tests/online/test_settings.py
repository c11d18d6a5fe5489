"""Settings: from outside, checked, shown without secrets."""

import argparse
from pathlib import Path

import pytest

from feature_store.errors import SettingsError
from online.settings import (
    FIELDS,
    SECRETS,
    Clock,
    Settings,
    add_flags,
    flag,
    read_settings,
    variable,
)
from tests.worlds import KEY


def test_without_anything_there_are_defaults() -> None:
    settings = read_settings({}, {})
    assert settings == Settings()
    assert settings.store_url == "lmdb:var/store"
    assert settings.clock is Clock.WALL


def test_flags_go_before_the_environment() -> None:
    environment = {"AISLE_HOME": "/srv/aisle", "AISLE_DEADLINE_MS": "90", "PATH": "/bin"}
    settings = read_settings(environment, {"deadline_ms": "70", "clock": "horizon", "home": None})
    assert (settings.home, settings.deadline_ms) == (Path("/srv/aisle"), 70)
    assert settings.clock is Clock.HORIZON
    assert settings.store_url == "lmdb:/srv/aisle/store"


@pytest.mark.parametrize(
    ("environment", "hint"),
    [
        ({"AISLE_HOMES": "x"}, "did you mean AISLE_HOME?"),
        ({"AISLE_QQQ": "x"}, "known are AISLE_HOME, "),
        ({"AISLE_CLOCK": "sun"}, "AISLE_CLOCK='sun': must be wall or horizon"),
        ({"AISLE_ADDRESS": "localhost"}, "must look like 127.0.0.1:50051"),
        ({"AISLE_DEADLINE_MS": "0"}, "must be 1 or more"),
        ({"AISLE_DEADLINE_MS": "1.5"}, "AISLE_DEADLINE_MS='1.5'"),
        ({"AISLE_LOCALE": "en_US"}, "must look like en or zh-CN"),
        ({"AISLE_CURRENCY": "dollar"}, "must look like USD"),
        ({"AISLE_STORE": ""}, "must not be empty"),
    ],
)
def test_what_cannot_be_used_is_refused(environment: dict[str, str], hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environment, {})
    assert hint in str(caught.value)


@pytest.mark.parametrize("key", ["0011", "not hexadecimal digits, but long enough for a key"])
def test_a_bad_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"AISLE_PSEUDONYM_KEY": key}, {})
    assert key not in str(caught.value)


def test_they_print_themselves_without_secrets() -> None:
    environment = {
        "AISLE_PSEUDONYM_KEY": KEY.hex(),
        "AISLE_STORE": "redis://shop:secret@store.example:6379/0",
    }
    settings = read_settings(environment, {})
    assert settings.pseudonym_key == KEY
    for shown in (str(settings), repr(settings)):
        assert KEY.hex() not in shown
        assert "secret" not in shown
        assert "AISLE_STORE=redis://(hidden)@store.example:6379/0" in shown
        assert [line.partition("=")[0] for line in shown.splitlines()] == list(
            map(variable, FIELDS)
        )


def test_each_setting_but_the_secret_has_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    flags = {option for action in parser._actions for option in action.option_strings}
    assert flags - {"-h", "--help"} == {flag(name) for name in FIELDS if name not in SECRETS}


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "sqlite:here/ledger/ledger.sqlite"),
        ({"AISLE_STORE": "lmdb:there"}, "sqlite:here/ledger/ledger.sqlite"),
        ({"AISLE_STORE": "redis://host:6379/1"}, "redis://host:6379/1"),
        ({"AISLE_STORE": "redis://host:6379/1", "AISLE_LEDGER": "sqlite:x"}, "sqlite:x"),
    ],
)
def test_who_shares_the_store_shares_the_ledger(variables: dict[str, str], address: str) -> None:
    settings = read_settings({"AISLE_HOME": "here", **variables}, {})
    assert settings.ledger_url == address

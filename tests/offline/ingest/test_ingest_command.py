"""`python -m offline ingest` as a person at a shell meets it."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from offline.__main__ import main
from offline.ingest.tables import scan_events, scan_products
from tests.offline.ingest.conftest import Shop

EXAMPLE = Path(__file__).parents[3] / "infra" / "examples"

Make = Callable[..., dict[str, object]]
Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(shop: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs the command at home in the shop's folder; exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("AISLE_PSEUDONYM_KEY", raising=False)

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = main(["ingest", "--quiet", "--home", str(shop.folder), *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_example_shop_loads_by_its_mapping_alone(shop: Shop, shell: Shell) -> None:
    code, out, err = shell(
        "--mapping", EXAMPLE / "mapping.toml",
        "--events", EXAMPLE / "orders.csv",
        "--products", EXAMPLE / "articles.csv",
    )  # fmt: skip
    assert (code, err) == (0, "")
    for words in ("unreadable event_time", "negative quantity", "quarantine/events.parquet"):
        assert words in out
    tables = shop.folder / "tables"
    assert len(scan_events(tables).collect()) == 1_191
    (kettle,) = scan_products(tables).filter(item="K01").collect().to_dicts()
    assert (kettle["title"], kettle["category"]) == ("Juniper Kettle", "Kitchen > Appliances")
    assert (kettle["price"], kettle["tags"]) == (pytest.approx(39.90), ["electric", "steel"])


def test_the_summary_prints_what_was_counted(shop: Shop, shell: Shell, purchase: Make) -> None:
    rows = [purchase(event_id=str(number % 3)) for number in range(5)]
    code, out, _ = shell("--events", shop.write("rows.csv", rows))
    assert code == 0
    assert [cell.strip() for cell in line_with(out, "│ events").split("│")[1:-1]] == [
        "events", "5", "3", "0", "2", "3",
    ]  # fmt: skip
    assert "2026-03-01T10:00:00Z to 2026-03-01T10:00:00Z, about 1 users and 1 items" in out
    assert "2 events repeat the key of another row" in out


def line_with(text: str, words: str) -> str:
    (line,) = (line for line in text.splitlines() if words in line)
    return line


def test_too_many_bad_rows_are_said_loudly_and_end_with_3(
    shop: Shop, shell: Shell, purchase: Make
) -> None:
    path = shop.write("rows.csv", [purchase(), purchase(kind="stare")])
    code, out, err = shell("--events", path)
    assert code == 3
    assert "TOO MANY BAD ROWS: 50.0% of the events" in out
    assert err.count("\n") == 1
    assert not (shop.folder / "tables" / "events").exists()
    assert shell("--events", path, "--max-quarantined", "0.5")[0] == 0


def test_a_wrong_input_is_one_line_and_ends_with_2(
    shop: Shop, shell: Shell, purchase: Make, tmp_path: Path
) -> None:
    path = shop.write("rows.csv", [purchase()])
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bad.toml").write_text("[events]\nusr = 'a'\n")
    wrong: list[list[str | Path]] = [
        [],
        ["--events", tmp_path / "nowhere.csv"],
        ["--events", tmp_path / "empty.csv"],
        ["--events", path, "--mapping", tmp_path / "bad.toml"],
        ["--events", path, "--events", path],
        ["--events", path, "--shop", "completejourney"],
        ["--shop", "completejourney", "--mapping", tmp_path / "bad.toml"],
        ["--products", path],
    ]
    for words in wrong:
        code, out, err = shell(*words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1, err


def test_a_key_made_on_first_use_gives_the_same_pseudonyms_again(
    shop: Shop, shell: Shell, purchase: Make
) -> None:
    path = shop.write("rows.csv", [purchase()])
    assert shell("--events", path, "--out", shop.out)[0] == 0
    before = shop.files()
    assert shell("--events", path, "--out", shop.out)[0] == 0
    assert shop.files() == before


def test_help_shows_a_mapping_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ingest", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for words in ("[events]", "examples:", "exit codes:", "--max-quarantined", "quarantine"):
        assert words in text


def test_a_share_must_be_one(shop: Shop, shell: Shell) -> None:
    with pytest.raises(SystemExit):
        shell("--events", shop.folder, "--max-quarantined", "5")


def test_many_files_of_a_folder_are_one_table(shop: Shop, shell: Shell, purchase: Make) -> None:
    (shop.folder / "export").mkdir()
    for day in range(1, 4):
        shop.write(f"export/{day}.parquet", [purchase(event_time=f"2026-03-0{day} 10:00:00")])
    assert shell("--events", shop.folder / "export", "--out", shop.out)[0] == 0
    assert shop.events()["event_time"].dt.day().to_list() == [1, 2, 3]
    assert pl.read_parquet(shop.out / "events").height == 3

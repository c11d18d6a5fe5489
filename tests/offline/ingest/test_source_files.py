"""Files that are what they claim, and files that are not."""

import gzip
import io
import random
from pathlib import Path

import polars as pl
import pytest

from offline.errors import SourceError
from offline.ingest.files import find_sources
from offline.ingest.mapping import CsvFormat
from tests.offline.ingest.conftest import Shop

HEADER = b"event_time,user,kind,item\n"
ROW = b"2026-03-01 10:00:00,anna,purchase,kettle\n"


def parquet_bytes(rows: int = 1) -> bytes:
    file = io.BytesIO()
    pl.DataFrame({"user": ["anna"] * rows}).write_parquet(file)
    return file.getvalue()


# What each file holds, and what is said of it.
WRONG = {
    "empty.csv": (b"", "is empty"),
    "empty.parquet": (b"", "is empty"),
    "text.parquet": (HEADER + ROW, "is not a Parquet file"),
    "short.parquet": (parquet_bytes()[:-9], "was cut short"),
    "hollow.parquet": (b"PAR1" + bytes(40) + b"PAR1", "damaged or not what it claims"),
    "tables.csv": (parquet_bytes(), "a Parquet file"),
    "sheet.csv": (b"PK\x03\x04" + bytes(100), "a zip or Excel file"),
    "wide.csv": ("user,item\n".encode("utf-16"), "UTF-16"),
    "binary.csv": (HEADER + bytes(range(256)), "binary data"),
    "latin.csv": ("user,item\nJürgen,kettle\n".encode("latin1"), "not UTF-8"),
    "plain.csv.gz": (HEADER + ROW, "not a whole gzip file"),
    "short.csv.gz": (gzip.compress(HEADER + ROW * 9)[:-12], "not a whole gzip file"),
    "semicolons.csv": (HEADER.replace(b",", b";"), 'delimiter = ";"'),
    "tabs.csv": (HEADER.replace(b",", b"\t"), r'delimiter = "\t"'),
}

FORMS = {
    "plain.csv": HEADER + ROW,
    "marked.csv": b"\xef\xbb\xbf" + HEADER + ROW,
    "windows.csv": (HEADER + ROW).replace(b"\n", b"\r\n"),
    "tabs.tsv": (HEADER + ROW).replace(b",", b"\t"),
    "packed.csv.gz": gzip.compress(HEADER + ROW),
    "quoted.csv": HEADER + b'2026-03-01 10:00:00,"anna",purchase,"kettle"\n',
}


def find(pattern: Path | str, form: CsvFormat | None = None) -> list[str]:
    return [Path(source.name).name for source in find_sources(str(pattern), form or CsvFormat())]


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_file_that_is_not_what_it_claims_is_refused_in_one_line(
    tmp_path: Path, name: str
) -> None:
    content, says = WRONG[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        find(path)
    message = str(caught.value)
    assert says in message
    assert str(path) in message
    assert "\n" not in message


def test_paths_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        find(tmp_path / "orders.csv")
    with pytest.raises(SourceError, match="no file matches"):
        find(tmp_path / "*.csv")
    with pytest.raises(SourceError, match="holds no data files"):
        find(tmp_path)


def test_a_folder_a_glob_and_a_file_are_found_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.csv", "a.csv", "deep/c.csv", ".hidden.csv", "_draft.csv", "notes.md"):
        (tmp_path / name).write_bytes(HEADER + ROW)
    assert find(tmp_path) == ["a.csv", "b.csv", "c.csv"]
    assert find(f"{tmp_path}/**/*.csv") == ["_draft.csv", "a.csv", "b.csv", "c.csv"]
    assert find(tmp_path / "b.csv") == ["b.csv"]


def test_a_folder_of_two_formats_is_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER + ROW)
    (tmp_path / "a.parquet").write_bytes(parquet_bytes())
    with pytest.raises(SourceError, match="files of several formats"):
        find(tmp_path)


def test_the_format_of_an_unknown_suffix_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "export.data").write_bytes(parquet_bytes(3))
    (source,) = find_sources(str(tmp_path / "export.data"), CsvFormat())
    assert source.num_rows == 3
    (tmp_path / "export.txt").write_bytes(HEADER + ROW)
    assert find(tmp_path / "export.txt") == ["export.txt"]


@pytest.mark.parametrize("name", sorted(FORMS))
def test_common_forms_of_csv_give_the_same_event(shop: Shop, name: str) -> None:
    path = shop.folder / name
    path.write_bytes(FORMS[name])
    assert shop.ingest_file(path).table("events").num_accepted == 1
    assert shop.events()["event_id"].to_list() == ["66e1a24bf34047442316b9ccd82ebde4"]


def test_zstd_is_read(shop: Shop) -> None:
    path = shop.folder / "packed.csv.zst"
    pl.read_csv(HEADER + ROW).write_csv(path, compression="zstd")
    assert shop.ingest_file(path).table("events").num_accepted == 1


def test_a_row_of_too_many_fields_is_named_by_its_line(shop: Shop) -> None:
    path = shop.folder / "orders.csv"
    path.write_bytes(HEADER + ROW + ROW.replace(b"kettle", b"kettle, red") + ROW)
    with pytest.raises(SourceError, match=r"orders.csv is damaged .* line 3 has more fields than"):
        shop.ingest_file(path)
    assert not (shop.out / "events").exists()


def test_a_parquet_file_with_damaged_pages_is_refused(shop: Shop) -> None:
    path = shop.folder / "orders.parquet"
    random.seed(1)
    rows = 2_000
    pl.DataFrame(
        {
            "event_time": ["2026-03-01 10:00:00"] * rows,
            "user": [str(random.random()) for _ in range(rows)],
            "kind": ["purchase"] * rows,
            "item": [str(random.random()) for _ in range(rows)],
        }
    ).write_parquet(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 4 : len(damaged) // 2] = bytes(len(damaged) // 4)
    path.write_bytes(damaged)
    with pytest.raises(SourceError, match=r"orders\.parquet is damaged"):
        shop.ingest_file(path)


def test_a_source_without_a_row_is_refused(shop: Shop) -> None:
    path = shop.folder / "orders.csv"
    path.write_bytes(HEADER)
    with pytest.raises(SourceError, match="there is no row to read"):
        shop.ingest_file(path)

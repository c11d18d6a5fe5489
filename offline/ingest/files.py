"""From a path to source tables: a file, every file of a folder, or a glob.

A file that is not what it claims (no such file, empty, binary CSV, Parquet without its
magic, another delimiter) is refused here with one line that says so, before any row is read.
This module knows files; it knows nothing of tables or mappings.
"""

import codecs
import csv
import glob
import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import polars as pl

from offline.errors import SourceError
from offline.ingest.mapping import CsvFormat

FileFormat = Literal["parquet", "csv", "json"]

_SUFFIXES: Final[dict[str, FileFormat]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".csv.zst": "csv",
    ".tsv.zst": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
}
_DELIMITERS: Final = (",", ";", "\t", "|")
_DELIMITER_NAMES: Final = {"\t": "\\t"}
_HEAD_BYTES: Final = 1 << 16
_PARQUET_MAGIC: Final = b"PAR1"
_BINARY_KINDS: Final = {
    _PARQUET_MAGIC: "a Parquet file",
    b"PK\x03\x04": "a zip or Excel file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"\x1f\x8b": "a gzip file; name it .csv.gz",
    b"\x28\xb5\x2f\xfd": "a zstd file; name it .csv.zst",
    b"\xff\xfe": "UTF-16 text; convert it to UTF-8",
    b"\xfe\xff": "UTF-16 text; convert it to UTF-8",
}


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or one frame of an adapter, that is read into one canonical table.

    `name` and `fingerprint` (of the content) say in the quarantine where a row came from;
    `num_rows` may be an estimate and is only for progress. `delimiter` is that of a CSV file.
    """

    name: str
    fingerprint: str
    num_rows: int
    frame: pl.LazyFrame
    delimiter: str | None = None


def find_sources(pattern: str, form: CsvFormat) -> list[Source]:
    """The sources at a file, a folder (searched deeply) or a glob, in order of their names.

    Raises SourceError when there are none, or when one is not what it claims.
    """
    return [_open(path, form) for path in _find_paths(pattern)]


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits of a file's size, first and last 64 KiB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(max(0, size - _HEAD_BYTES))
        tail = file.read(_HEAD_BYTES)
    return hashlib.blake2b(b"%d:" % size + head + tail, digest_size=8).hexdigest()


def _find_paths(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        return _files_in(path)
    if path.exists():
        return [path]
    if not glob.has_magic(pattern):
        raise SourceError(f"no such file: {pattern}")
    paths = sorted(Path(found) for found in glob.glob(pattern, recursive=True))  # noqa: PTH207
    if not (paths := [path for path in paths if path.is_file()]):
        raise SourceError(f"no file matches {pattern}")
    return paths


def _files_in(folder: Path) -> list[Path]:
    """The data files under a folder, hidden ones left out."""
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and _suffix(path) in _SUFFIXES
        and not any(part[0] in "._" for part in path.relative_to(folder).parts)
    )
    formats = {_SUFFIXES[_suffix(path)] for path in paths}
    if not paths:
        raise SourceError(f"{folder} holds no data files; looked for {', '.join(_SUFFIXES)}")
    if len(formats) > 1:
        raise SourceError(
            f'{folder} holds files of several formats; choose one kind, e.g. "{folder}/*.csv"'
        )
    return paths


def _suffix(path: Path) -> str:
    """The last suffix, with the one before it when the last is of a compression."""
    suffixes = path.suffixes[-2:] if path.suffix in (".gz", ".zst") else path.suffixes[-1:]
    return "".join(suffixes).lower()


def _format_of(path: Path) -> FileFormat:
    """By suffix; a file of an unknown suffix is Parquet when it starts like one."""
    if (by_suffix := _SUFFIXES.get(_suffix(path))) is not None:
        return by_suffix
    return "parquet" if _head(path).startswith(_PARQUET_MAGIC) else "csv"


def _open(path: Path, form: CsvFormat) -> Source:
    try:
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty")
        form_of = _format_of(path)
        if form_of == "parquet":
            return parquet_source(path)
        return _json_source(path) if form_of == "json" else _csv_source(path, form)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        raise unreadable(str(path), error) from None


def unreadable(name: str, error: BaseException, delimiter: str | None = None) -> SourceError:
    """The error for a source that turned out damaged while it was read.

    With the `delimiter` of a CSV file, a row of too many fields is named by its line.
    """
    reason = str(error).splitlines()[0]
    if delimiter is not None and reason.startswith("found more fields"):
        reason = _too_many_fields(Path(name), delimiter)
    return SourceError(f"{name} is damaged or not what it claims: {reason}")


def _too_many_fields(path: Path, delimiter: str) -> str:
    advice = "quote fields that hold the delimiter"
    if path.suffix == ".zst":
        return f"a row has more fields than the header; {advice}"
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        rows = csv.reader(codecs.getreader("utf-8-sig")(file, "replace"), delimiter=delimiter)
        num_columns = len(next(rows))
        line = next((rows.line_num for row in rows if len(row) > num_columns), 0)
    return f"line {line} has more fields than the {num_columns} of the header; {advice}"


def parquet_source(path: Path) -> Source:
    """One Parquet file, its footer checked; SourceError when it is none."""
    with path.open("rb") as file:
        starts = file.read(4) == _PARQUET_MAGIC
        file.seek(-min(4, path.stat().st_size), 2)
        ends = file.read(4) == _PARQUET_MAGIC
    if not starts:
        raise SourceError(f"{path} is not a Parquet file")
    if not ends:
        raise SourceError(f"{path} is a Parquet file that was cut short")
    frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    num_rows = int(frame.select(pl.len()).collect().item())
    return Source(str(path), fingerprint(path), num_rows, frame)


def _csv_source(path: Path, form: CsvFormat) -> Source:
    delimiter = form.delimiter or ("\t" if _suffix(path).startswith(".tsv") else ",")
    head = _head(path)
    _refuse_binary(path, head)
    _refuse_other_delimiter(path, _decode(path, head), delimiter)
    frame = pl.scan_csv(
        path,
        separator=delimiter,
        infer_schema=False,
        null_values=list(form.nulls) or None,
        glob=False,
    )
    num_rows = path.stat().st_size * (head.count(b"\n") + 1) // (len(head) + 1)
    return Source(str(path), fingerprint(path), num_rows, frame, delimiter)


def _json_source(path: Path) -> Source:
    """A file with one JSON object a line; every line is looked at for the columns."""
    _decode(path, _head(path))
    frame = pl.scan_ndjson(path, infer_schema_length=None)
    try:
        num_rows = int(frame.select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"{path} is not one JSON object a line: {reason}") from None
    return Source(str(path), fingerprint(path), num_rows, frame)


def _head(path: Path) -> bytes:
    """The first bytes of a file, unpacked when it is gzip; of zstd, none."""
    if path.suffix == ".zst":
        return b""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise SourceError(f"{path} is not a whole gzip file") from None


def _refuse_binary(path: Path, head: bytes) -> None:
    for magic, kind in _BINARY_KINDS.items():
        if head.startswith(magic):
            raise SourceError(f"{path} is not CSV text but {kind}")
    if b"\0" in head:
        raise SourceError(f"{path} is not CSV text: it holds binary data")


def _decode(path: Path, head: bytes) -> str:
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        raise SourceError(
            f"{path} is not UTF-8 text; convert it, e.g. with: iconv -f latin1 -t utf-8"
        ) from None


def _refuse_other_delimiter(path: Path, text: str, delimiter: str) -> None:
    """A header in one piece that another delimiter would cut was written with that one."""
    header = text.lstrip().split("\n", 1)[0]
    others = [other for other in _DELIMITERS if other in header]
    if delimiter not in header and others:
        name = _DELIMITER_NAMES.get(others[0], others[0])
        raise SourceError(
            f"{path} is not delimited by {delimiter!r}: its header is {header.strip()[:60]!r}; "
            f'say so in the mapping: [csv] delimiter = "{name}"'
        )

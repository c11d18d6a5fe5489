r"""The column mapping: how a shop's own columns become canonical ones, without code.

A TOML file with one section a table, and one line for each canonical column whose name or
form differs from the schema's; every other column is taken by its canonical name.

    [csv]                                 # optional
    delimiter = ";"
    nulls = ["NULL", "-"]                 # by default "NULL" and "\\N"

    [events]
    user = "customer_no"                                  # another name
    kind = { value = "purchase" }                         # the same for every row
    kind = { column = "type", values = { order = "purchase", page = "view" } }
    event_time = { column = "at", format = "%d.%m.%Y %H:%M", timezone = "Europe/Berlin" }
    event_time = { column = "ts", unit = "ms" }           # s, ms, us or ns since 1970
    price = { column = "amount", decimal = "," }

    [products]
    category = { columns = ["department", "group"] }      # joined with " > "
    category = { column = "path", split = "/" }           # one column that holds the levels
    title = { columns = ["maker", "name"], join = " " }
    tags = { column = "labels", split = ";" }

    [users]
    attributes = { columns = ["age", "income"] }          # becomes age=45-54, income=50-74K

This module knows TOML and the schema's names; it knows no Polars and opens no data.
"""

import difflib
import tomllib
import zoneinfo
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from feature_store.schema import CATEGORY_SEPARATOR, TABLES, Column, DType, Table
from offline.errors import MappingError

LIST_SEPARATOR: Final = "|"
SQL_NULLS: Final = ("NULL", "\\N")
TIME_UNITS: Final = ("s", "ms", "us", "ns")

_ANY_OPTIONS: Final = frozenset({"column", "columns", "value", "values"})
_OPTIONS: Final[dict[DType, frozenset[str]]] = {
    "string": _ANY_OPTIONS | {"join", "split"},
    "time": _ANY_OPTIONS | {"format", "timezone", "unit"},
    "float32": _ANY_OPTIONS | {"decimal"},
    "float64": _ANY_OPTIONS | {"decimal"},
    "bool": _ANY_OPTIONS,
    "strings": _ANY_OPTIONS | {"split"},
}
_CSV_SECTION: Final = "csv"


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Where one canonical column comes from: source `columns`, or a constant `value`.

    `join` joins several columns, `split` cuts one, `values` replaces the values named and
    leaves others. A time without an offset is read in `timezone`; `unit` is that of numbers
    since 1970, None: told by their size.
    """

    columns: tuple[str, ...] = ()
    value: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    join: str = " "
    split: str | None = None
    format: str | None = None
    timezone: str = "UTC"
    unit: str | None = None
    decimal: str = "."


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """How the shop's CSV files are written; delimiter None: by the file's suffix.

    `nulls` are the texts that mean "no value", beside the empty text.
    """

    delimiter: str | None = None
    nulls: tuple[str, ...] = SQL_NULLS


@dataclass(frozen=True, slots=True)
class ShopMapping:
    """The mappings of all tables by table and canonical name, and the CSV format."""

    tables: Mapping[str, Mapping[str, ColumnMapping]] = field(default_factory=dict)
    csv: CsvFormat = CsvFormat()

    def column(self, table: Table, name: str) -> ColumnMapping:
        """The mapping of a canonical column; by default the source column of that name."""
        given = self.tables.get(table.name, {}).get(name)
        return default_mapping(table.column(name)) if given is None else given

    def names(self, table: Table, name: str) -> bool:
        """True when the mapping itself names this column."""
        return name in self.tables.get(table.name, {})


def default_mapping(column: Column) -> ColumnMapping:
    """What holds for a column that no mapping names."""
    return ColumnMapping(
        columns=(column.name,),
        join=CATEGORY_SEPARATOR if column.name == "category" else " ",
        split=LIST_SEPARATOR if column.dtype == "strings" else None,
    )


def read_mapping(path: Path) -> ShopMapping:
    """The mapping in a TOML file; MappingError names the line's section and column."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"cannot read the mapping {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"{path} is not TOML: {error}") from None
    try:
        return parse_mapping(document)
    except MappingError as error:
        raise MappingError(f"{path}: {error}") from None


def parse_mapping(document: Mapping[str, Any]) -> ShopMapping:
    """The mapping in a parsed TOML document; MappingError when a name or option is unknown."""
    _known("section", document, [*TABLES, _CSV_SECTION])
    tables = {
        name: _parse_table(TABLES[name], _section(name, section))
        for name, section in document.items()
        if name != _CSV_SECTION
    }
    csv = _parse_csv(_section(_CSV_SECTION, document.get(_CSV_SECTION, {})))
    return ShopMapping(tables, csv)


def _section(name: str, section: object) -> Mapping[str, Any]:
    if not isinstance(section, dict):
        raise MappingError(f"[{name}] must be a section of lines: column = source")
    return cast(Mapping[str, Any], section)


def _parse_table(table: Table, section: Mapping[str, Any]) -> dict[str, ColumnMapping]:
    _known(f"column in [{table.name}]", section, table.names)
    return {
        name: _parse_column(f"[{table.name}] {name}", table.column(name), entry)
        for name, entry in section.items()
    }


def _parse_column(place: str, column: Column, entry: object) -> ColumnMapping:
    """One line of the mapping: a source column's name, or a table of options."""
    if isinstance(entry, str):
        entry = {"column": entry}
    if not isinstance(entry, dict):
        raise MappingError(f'{place} must be a source column, or {{ value = "..." }}')
    _known(f"option in {place}", entry, sorted(_OPTIONS[column.dtype]))
    if sum(key in entry for key in ("column", "columns", "value")) != 1:
        raise MappingError(f"{place} needs exactly one of column, columns and value")
    return _checked(place, _with_options(place, column, entry))


def _with_options(place: str, column: Column, entry: Mapping[str, Any]) -> ColumnMapping:
    base = default_mapping(column)
    text = {key: _text(place, key, entry[key]) for key in entry if key not in ("columns", "values")}
    columns = _texts(place, "columns", entry.get("columns", [text.get("column")]))
    return ColumnMapping(
        columns=() if "value" in entry else columns,
        value=text.get("value"),
        values=_replacements(place, entry.get("values", {})),
        join=text.get("join", base.join),
        split=text.get("split", base.split),
        format=text.get("format"),
        timezone=text.get("timezone", base.timezone),
        unit=text.get("unit"),
        decimal=text.get("decimal", base.decimal),
    )


def _checked(place: str, mapping: ColumnMapping) -> ColumnMapping:
    """The mapping, if its options have values that mean something."""
    if mapping.unit is not None:
        _known(f"unit in {place}", [mapping.unit], TIME_UNITS)
    if len(mapping.decimal) != 1:
        raise MappingError(f"{place}: decimal must be one character")
    try:
        zoneinfo.ZoneInfo(mapping.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise MappingError(
            f"{place}: unknown timezone {mapping.timezone!r}; write e.g. Europe/Berlin"
        ) from None
    return mapping


def _parse_csv(section: Mapping[str, Any]) -> CsvFormat:
    _known("option in [csv]", section, ("delimiter", "nulls"))
    delimiter = section.get("delimiter")
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter.encode()) != 1):
        raise MappingError('[csv] delimiter must be one ASCII character, e.g. ";" or "\\t"')
    return CsvFormat(delimiter, _texts("[csv]", "nulls", section.get("nulls", [*SQL_NULLS])))


def _replacements(place: str, values: object) -> dict[str, str]:
    if not isinstance(values, dict):
        raise MappingError(f'{place}: values must be a table, e.g. {{ order = "purchase" }}')
    return {key: _text(place, f"values.{key}", value) for key, value in values.items()}


def _text(place: str, key: str, value: object) -> str:
    """A scalar of TOML as text, true and false in lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise MappingError(f"{place}: {key} must be a text, a number, true or false")


def _texts(place: str, key: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise MappingError(f'{place}: {key} must be a list of texts, e.g. ["a", "b"]')
    return tuple(_text(place, key, value) for value in values if value is not None)


def _known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises MappingError for the first name given that is not known, with the nearest one."""
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
            raise MappingError(f"unknown {what}: {name}; {hint}")

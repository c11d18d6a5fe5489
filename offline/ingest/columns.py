"""The mapping applied to one source: an expression for what stands there, column by column.

What comes out is *given*: still untyped, but cleaned (text stripped, empty text null),
renamed and joined. Parsing it is the work of `offline.ingest.values`.
"""

from collections.abc import Iterable
from typing import Final

import polars as pl

from feature_store.schema import CATEGORY_SEPARATOR, EVENTS, Column, Table
from offline.errors import MappingError
from offline.ingest.aliases import suggest
from offline.ingest.mapping import ColumnMapping, ShopMapping

# Lists whose entries carry the name of the column they come from.
_KEYED_LISTS: Final = frozenset({"attributes"})
_IDENTITIES: Final = ("user", "session")


def given_columns(
    table: Table, mapping: ShopMapping, schema: pl.Schema, source: str
) -> list[pl.Expr]:
    """One expression a canonical column, in order, named like it; null where there is none.

    Raises MappingError, naming `source`, when a column that the table cannot do without, or
    that the mapping names, is absent, or has a type that cannot be read.
    """
    _check_present(table, mapping, schema, source)
    expressions = []
    for column in table.columns:
        chosen = mapping.column(table, column.name)
        present = chosen.value is not None or all(name in schema for name in chosen.columns)
        try:
            value = _given(column, chosen, schema) if present else pl.lit(None, pl.String)
        except pl.exceptions.InvalidOperationError as error:
            raise MappingError(f"{source}: {table.name}.{column.name}: {error}") from None
        expressions.append(value.alias(column.name))
    return expressions


def _check_present(table: Table, mapping: ShopMapping, schema: pl.Schema, source: str) -> None:
    for column in table.columns:
        chosen = mapping.column(table, column.name)
        absent = [name for name in chosen.columns if name not in schema]
        if absent and mapping.names(table, column.name):
            raise MappingError(
                f"{source}: column {absent[0]}, which the mapping takes as "
                f"{table.name}.{column.name}, is missing; found {', '.join(schema)}"
            )
    missing = [name for name in _needed(table) if _absent(table, mapping, schema, name)]
    if missing:
        raise MappingError(f"{source}: " + "; ".join(_hint(table, n, schema) for n in missing))


def _needed(table: Table) -> list[str]:
    """Columns without which every row would be quarantined."""
    names = [column.name for column in table.columns if column.required]
    return [*names, "item", "user"] if table is EVENTS else names


def _absent(table: Table, mapping: ShopMapping, schema: pl.Schema, name: str) -> bool:
    names = _IDENTITIES if table is EVENTS and name == "user" else (name,)
    return not any(mapping.names(table, each) or each in schema for each in names)


def _hint(table: Table, name: str, schema: pl.Schema) -> str:
    """What to do about a missing column, in words that can be pasted into the mapping."""
    found = suggest(name, schema)
    if found is not None:
        line = f'[{table.name}] {name} = "{found}"'
        return f"column {name} is missing; found {found}: map it with {line}"
    if name == "kind":
        return (
            "column kind is missing; when every row is a purchase, map it with "
            f'[{table.name}] kind = {{ value = "purchase" }}'
        )
    return (
        f'column {name} is missing; map it with [{table.name}] {name} = "..."; '
        f"found {', '.join(schema)}"
    )


def _given(column: Column, mapping: ColumnMapping, schema: pl.Schema) -> pl.Expr:
    if mapping.value is not None:
        return _empty_to_null(pl.lit(mapping.value))
    if column.dtype == "strings" and len(mapping.columns) > 1:
        return _entries(column, mapping.columns, schema)
    if len(mapping.columns) > 1:
        texts = [_text(name, schema[name]) for name in mapping.columns]
        joined = pl.concat_str(texts, separator=mapping.join, ignore_nulls=True)
        return _replaced(_empty_to_null(joined), mapping)
    return _single(column, mapping, schema)


def _entries(column: Column, names: Iterable[str], schema: pl.Schema) -> pl.Expr:
    """Several columns as one list, nulls left out."""
    texts = [
        pl.lit(f"{name}=") + text if column.name in _KEYED_LISTS else text
        for name, text in ((name, _text(name, schema[name])) for name in names)
    ]
    return pl.concat_list(texts).list.drop_nulls()


def _single(column: Column, mapping: ColumnMapping, schema: pl.Schema) -> pl.Expr:
    """One column: as text when it is to be text or its values are replaced, else as it is."""
    (name,) = mapping.columns
    dtype = schema[name]
    if isinstance(dtype, pl.List) and column.dtype == "strings":
        return pl.col(name)
    if column.dtype == "string" or mapping.values or not _is_native(dtype):
        text = _replaced(_text(name, dtype), mapping)
        return _levels(text, mapping.split) if column.name == "category" else text
    return pl.col(name)


def _is_native(dtype: pl.DataType) -> bool:
    """True for types that `values` parses without going through text."""
    return dtype.is_numeric() or dtype.is_temporal() or isinstance(dtype, pl.Boolean)


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A source column as clean text; whole floats, which nulls make of integers, as integers."""
    column = pl.col(name)
    if dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        text = pl.when(whole == column).then(whole.cast(pl.String))
        return text.otherwise(column.cast(pl.String))
    if dtype.is_nested() or isinstance(dtype, pl.Binary | pl.Object):
        raise pl.exceptions.InvalidOperationError(
            f"column {name} has type {dtype}, which cannot be read as text"
        )
    return _empty_to_null(column.cast(pl.String))


def _empty_to_null(text: pl.Expr) -> pl.Expr:
    stripped = text.str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def _replaced(text: pl.Expr, mapping: ColumnMapping) -> pl.Expr:
    if not mapping.values:
        return text
    return _empty_to_null(text.replace(list(mapping.values), list(mapping.values.values())))


def _levels(text: pl.Expr, separator: str | None) -> pl.Expr:
    """A category path with another separator, in canonical form."""
    if separator is None:
        return text
    levels = text.str.split(separator).list.eval(pl.element().str.strip_chars())
    return _empty_to_null(levels.list.join(CATEGORY_SEPARATOR))

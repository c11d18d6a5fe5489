"""Keep out of the tables who was erased, whatever a shop's files still hold of them.

The raw id is asked for, so that a change of the pseudonym key lets nobody back in. What is left
of such a row is that there was one: its place is not kept either.
"""

from collections.abc import Sequence

import polars as pl

from feature_store.schema import Table
from feature_store.tombstones import Tombstones
from offline.ingest.identity import PERSONAL_COLUMNS
from offline.ingest.rules import REASON, ROW_NUMBER, Judged

ERASED_REASON = "erased user or session"


def without_erased(table: Table, judged: Judged, tombstones: Tombstones | None) -> Judged:
    """The batch without those rows: each becomes a rejected one that holds its reason alone."""
    columns = [name for name in PERSONAL_COLUMNS if name in table.names]
    if not tombstones or not columns:
        return judged
    num_before = len(judged.accepted) + len(judged.rejected)
    accepted = judged.accepted.filter(~_is_erased(judged.accepted, columns, tombstones))
    rejected = judged.rejected.filter(~_is_erased(judged.rejected, columns, tombstones))
    num_erased = num_before - len(accepted) - len(rejected)
    blanks = pl.DataFrame({REASON: [ERASED_REASON] * num_erased}).select(
        pl.lit(None, pl.Int64).alias(ROW_NUMBER),
        REASON,
        *(pl.lit(None, pl.String).alias(name) for name in table.names),
    )
    return Judged(accepted, pl.concat([rejected, blanks], how="vertical_relaxed"))


def _is_erased(rows: pl.DataFrame, columns: Sequence[str], tombstones: Tombstones) -> pl.Expr:
    raw = {name for column in columns for name in rows[column].unique() if name is not None}
    erased = [name for name in raw if tombstones.has_id(name)]
    return pl.any_horizontal(pl.col(columns).is_in(erased).fill_null(value=False))

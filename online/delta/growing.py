"""A snapshot and what changed since: folded into a new snapshot that shares nearly all of it.

Every fold gives a new value, to be exchanged in one assignment; what was given before stays as it
was. New products get rows in the bundle's room and, from `online.stages.fresh`, a source of their
own. Without changes the snapshot is the bundle's own, so that a shop that sends none pays nothing.
It knows the parts of a snapshot, and neither the log nor who asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.catalog_log import TAKEN_IN_FILE, LoggedChange, Reading
from feature_store.ids import hash64_many
from feature_store.language.products import VECTORS
from online.catalog import NO_KEYS, Catalog, GrownTexts
from online.delta.parts import Part, with_part
from online.delta.products import Product, kept_product, product_of
from online.delta.rows import NewRow, RowWriter
from online.delta.shop import GrownShop
from online.errors import SnapshotError
from online.offering.shop import Shop
from online.pipeline import Pipeline, SizedSource
from online.placements import Placement
from online.snapshot import Snapshot
from online.stages.fresh import SIZE, FirstChance, Fresh
from online.stages.neighbours import Neighbours
from online.stages.scorers import Blend

MAX_FRESH: Final = 4_000
"""So many of the newest products are looked through for each request."""

NO_READING: Final = Reading()
ONE: Final = np.ones(1, np.float32)


class RoomFullError(SnapshotError):
    """There are more new products than the bundle was opened with room for."""


def taken_in(snapshot: Snapshot) -> int:
    """The newest change that the snapshot's bundle has taken in, 0 for none."""
    if TAKEN_IN_FILE not in snapshot.bundle.manifest.files:
        return 0
    return int(snapshot.bundle.json(TAKEN_IN_FILE)["sequence"])


@dataclass(slots=True)
class Growth:
    """What came to one snapshot so far. One thread at a time."""

    base: Snapshot
    shop: Shop
    _parts: tuple[Part, ...] = ()
    _changed: dict[int, Product] = field(default_factory=dict)
    _index_of: dict[str, int] = field(default_factory=dict)
    _new: list[NewRow] = field(default_factory=list)
    _keys: NDArray[np.uint64] = field(default_factory=lambda: NO_KEYS)
    _fresh: Fresh | None = None
    _unwritten: dict[int, NewRow] = field(default_factory=dict)
    _writer: RowWriter = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the bundle's columns."""
        self._writer = RowWriter(self.base.bundle, self.base.catalog, self.shop.attributes)

    @property
    def num_kept(self) -> int:
        """How many items the bundle has; those of the room follow."""
        return len(self.base.catalog)

    def fold(self, changes: Sequence[LoggedChange]) -> Snapshot:
        """The snapshot with these changes and all before; each product once, its newest state.

        Raises RoomFullError, and takes none of them, when there is no room for a new product.
        """
        up_to, num_before = taken_in(self.base), len(self._new)
        touched: dict[int, Product] = {}
        places = self.base.catalog.indexes_of([change.item for change in changes]).tolist()
        come = [
            change.item
            for change, place in zip(changes, places, strict=True)
            if place < 0 and not change.change.is_deleted and change.item not in self._index_of
        ]
        self._require_room(len(dict.fromkeys(come)))
        for change, place in zip(changes, places, strict=True):
            if place >= 0 and change.sequence > up_to:
                kept = kept_product(self.base.catalog, self.shop.attributes, place)
                touched[place] = self._changed[place] = product_of(change, kept)
            elif place < 0 and (index := self._place_new(change)) is not None:
                touched[index] = self._new[index - self.num_kept].product
        if touched:
            self._parts = with_part(self._parts, touched)
        come_keys = hash64_many([one.product.item for one in self._new[num_before:]])
        self._keys = np.append(self._keys, come_keys)
        if self._unwritten:
            self._write()
            self._fresh = self._make_fresh()
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        """The bundle's own snapshot, with all that came to it."""
        if not self._parts:
            return self.base
        catalog = self._catalog()
        shop = GrownShop(self.shop, catalog, self._parts, self.num_kept + len(self._new))
        pipelines = {
            name: _grown(pipeline, self.base.placements[name], catalog, self._fresh, self.num_kept)
            for name, pipeline in self.base.pipelines.items()
        }
        return replace(self.base, catalog=catalog, shop=shop, pipelines=pipelines)

    def _require_room(self, num_new: int) -> None:
        room = self.base.bundle.room
        if num_new and len(self._new) + num_new > (room.num_rows if room else 0):
            raise RoomFullError(f"no room for {num_new} new products beside {len(self._new)}")

    def _place_new(self, change: LoggedChange) -> int | None:
        """Write the rows of a product that the bundle lacks; its index, None for a deleted one."""
        index = self._index_of.get(change.item)
        if index is None and change.change.is_deleted:
            return None
        if index is None:
            index = self._index_of[change.item] = self.num_kept + len(self._new)
        row = index - self.num_kept
        before = self._new[row] if row < len(self._new) else None
        product = product_of(change, None if before is None else before.product)
        one = self._row_of(row, product, change.change.reading or NO_READING)
        self._new[row : row + 1] = [one]
        if before is None or _is_read_anew(before.product, product):
            self._unwritten[row] = one
        return index

    def _write(self) -> None:
        """Write the rows that are new or read anew, before anybody is told of them."""
        self._writer.write(list(self._unwritten.values()))
        rows = sorted(self._unwritten)
        self.shop.regroup(self.num_kept + rows[0], self.num_kept + rows[-1] + 1)
        self._unwritten = {}

    def _row_of(self, row: int, product: Product, reading: Reading) -> NewRow:
        """The neighbours by index; those that the bundle lacks are left out."""
        neighbours = self.base.catalog.indexes_of_keys(reading.keys)
        weights = reading.weights[neighbours >= 0]
        neighbours = neighbours[neighbours >= 0]
        if not len(neighbours):
            neighbours, weights = self.base.bundle.array("popular/order")[:1], ONE
        return NewRow(row, product, neighbours, weights / weights.sum(), reading.vector)

    def _catalog(self) -> Catalog:
        """The catalogue with changed texts and prices, and with the new products behind."""
        kept, new = self.base.catalog, [one.product for one in self._new]
        changed = self._changed
        places = np.fromiter(changed, np.int64, len(changed))
        price = np.append(kept.price, [one.price for one in new]).astype(np.float32)
        price[places] = [one.price for one in changed.values()]
        available = np.append(kept.available, [one.is_sold for one in new]).astype(bool)
        available[places] = [one.is_sold for one in changed.values()]
        order = np.argsort(self._keys)

        def texts(name: str) -> GrownTexts:
            return GrownTexts(
                getattr(kept, name),
                {place: getattr(one, name) for place, one in changed.items()},
                [getattr(one, name) for one in new],
            )

        return replace(
            kept,
            ids=GrownTexts(kept.ids, {}, [one.item for one in new]),
            title=texts("title"),
            category=texts("category"),
            brand=texts("brand"),
            image_url=texts("image_url"),
            url=texts("url"),
            price=price,
            available=available,
            more_keys=self._keys[order],
            more_index=(self.num_kept + order).astype(np.int32),
        )

    def _make_fresh(self) -> Fresh | None:
        """The source of the newest new products; None when there are none."""
        newest = sorted(self._new, key=lambda one: one.product.created_time)[-MAX_FRESH:]
        rows = np.array(sorted(one.row for one in newest), np.int32)
        if not len(rows):
            return None
        items, bundle = (self.num_kept + rows).astype(np.int32), self.base.bundle
        appeal = bundle.column("affinity/appeal")
        vectors = bundle.column(VECTORS) if VECTORS in bundle else None
        meanings = np.zeros((len(items), 1), np.float32) if vectors is None else vectors[items]
        highest = max(float(appeal[: self.num_kept].max()), 1e-12)
        half_life = bundle.json("serving.json")["profile_half_life"]
        priors = (appeal[items] / highest).astype(np.float32)
        return Fresh(items, meanings.astype(np.float32), priors, vectors, half_life)


def _is_read_anew(before: Product, product: Product) -> bool:
    """Whether what is known of a product says something else of what it is like."""
    names = ("title", "category", "brand", "price", "created_time")
    return product.is_sold and any(getattr(before, n) != getattr(product, n) for n in names)


def _grown(
    pipeline: Pipeline, row: Placement, catalog: Catalog, fresh: Fresh | None, num_kept: int
) -> Pipeline:
    """The pipeline with the catalogue's texts in its reasons, and new products, if it shows any."""
    sources = tuple(
        replace(sized, source=replace(sized.source, catalog=catalog))
        if isinstance(sized.source, Neighbours)
        else sized
        for sized in pipeline.sources
    )
    if fresh is None or not row.fresh_weight:
        return replace(pipeline, sources=sources)
    scorer = pipeline.scorer
    if isinstance(scorer, Blend):
        weights = np.append(scorer.weights, np.float32(row.fresh_weight)).astype(np.float32)
        scorer = replace(scorer, weights=weights)
    return replace(
        pipeline,
        sources=(*sources, SizedSource(fresh, SIZE)),
        scorer=scorer,
        selector=FirstChance(pipeline.selector, num_kept),
    )

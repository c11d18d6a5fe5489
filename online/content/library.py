"""The content of a bundle as it is served: columns, links and vectors, looked up by piece.

It knows neither who asks nor how pieces are ranked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle
from feature_store.content.columns import ContentColumns, open_columns
from feature_store.ids import hash64_many
from feature_store.language.postings import Weights
from feature_store.language.products import VECTORS
from online.catalog import Catalog
from online.types import Card, ContentDetail, Mask

SUMMARY_CHARACTERS: Final = 220


@dataclass(frozen=True)
class Library:
    """Pieces by number, with their texts in each language.

    `item_vectors` are those of the products' texts, float16, shape (products, dimension).
    """

    columns: ContentColumns
    catalog: Catalog
    item_vectors: NDArray[np.float16]

    def __len__(self) -> int:
        """The number of pieces."""
        return len(self.columns)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each piece."""
        return tuple(self.columns.kind.tolist())

    @cached_property
    def versions(self) -> tuple[dict[str, int], ...]:
        """The version of each piece in each language."""
        found: list[dict[str, int]] = [{} for _ in range(len(self))]
        languages = self.columns.language.tolist()
        for version, piece in enumerate(self.columns.version_piece.tolist()):
            found[piece][_language(languages[version])] = version
        return tuple(found)

    @cached_property
    def paths(self) -> dict[str, int]:
        """The number of each category path that products of the bundle have."""
        numbers, items = np.unique(self.columns.item_path, return_index=True)
        found = zip(items.tolist(), numbers.tolist(), strict=True)
        return {self.catalog.category[item]: number for item, number in found}

    def shown_at(self, time: int, kinds: Sequence[str]) -> Mask:
        """Which pieces are shown at an instant, and are of these kinds; shape (pieces,)."""
        columns = self.columns
        shown: Mask = (columns.first_time <= time) & (time < columns.last_time)
        if kinds:
            shown &= np.isin(self.kinds, kinds)
        return shown

    def pieces_of(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """The piece of each id, -1 for none."""
        return self.columns.find(hash64_many(ids)) if ids else np.zeros(0, np.int32)

    def links_of(self, items: NDArray[np.int32]) -> Weights:
        """How closely each piece is linked to any of the products, 0 for not; shape (pieces,)."""
        links = np.zeros(len(self), np.float32)
        for item in items.tolist():
            pieces, strengths = self._linked(item)
            np.maximum.at(links, pieces, strengths)
        return links

    def likeness(self, items: NDArray[np.int32], weights: Weights | None = None) -> Weights:
        """Cosine of every piece with the products' mean text; 0 without any; shape (pieces,)."""
        known = items < len(self.item_vectors)
        rows = self.item_vectors[items[known]].astype(np.float32)
        if not len(rows):
            return np.zeros(len(self), np.float32)
        share = np.ones(len(rows), np.float32) if weights is None else weights[known]
        mean = share @ rows
        mean /= max(float(np.linalg.norm(mean)), 1e-9)
        cosines: Weights = self.columns.vectors @ mean
        return cosines

    def shares(self, items: NDArray[np.int32], weights: Weights) -> Weights:
        """How much of the weight of products lies in what each piece is linked to."""
        total = float(weights.sum())
        shares = np.zeros(len(self), np.float32)
        known = items < len(self.columns.item_path)
        paths = self.columns.item_path[items[known]]
        if total <= 0 or not len(paths):
            return shares
        by_path = np.bincount(paths, weights[known] / total)
        for path in np.flatnonzero(by_path).tolist():
            pieces, strengths = self.columns.linked(path)
            shares[pieces] += np.float32(by_path[path]) * strengths
        return shares

    def version(self, piece: int, languages: Sequence[str]) -> int:
        """The version in the first of the languages that there is; else any."""
        versions = self.versions[piece]
        wanted = (versions[one] for one in map(_language, languages) if one in versions)
        return next(wanted, next(iter(versions.values())))

    def card(self, piece: int, version: int) -> Card:
        """What a page shows of a piece in one language."""
        columns = self.columns
        begin, end = columns.product_starts[piece], columns.product_starts[piece + 1]
        products = columns.product_items[begin:end].tolist()
        return Card(
            title=columns.title[version],
            image_url=columns.image_url[version],
            url=columns.url[version],
            detail=ContentDetail(
                kind=self.kinds[piece],
                language=columns.language[version],
                summary=_summary(columns.body[version]),
                product_ids=tuple(self.catalog.ids[item] for item in products),
                publish_time=int(columns.first_time[piece]),
            ),
        )

    def _linked(self, item: int) -> tuple[NDArray[np.int32], Weights]:
        """The pieces linked to a product: by itself and by its category."""
        columns = self.columns
        is_known = item < len(self.catalog)  # else it came after the bundle
        path = self.paths.get(self.catalog.category[item], -1) if is_known else -1
        by_product = self._by_product.get(item, ())
        pieces, strengths = columns.linked(path) if path >= 0 else (_NONE, _NOTHING)
        direct = np.array(by_product, np.int32)
        return (
            np.concatenate([pieces, direct]),
            np.concatenate([strengths, np.full(len(direct), PRODUCT_STRENGTH, np.float32)]),
        )

    @cached_property
    def _by_product(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        starts = self.columns.product_starts
        owners = np.repeat(np.arange(len(self)), np.diff(starts))
        for piece, item in zip(owners.tolist(), self.columns.product_items.tolist(), strict=True):
            found.setdefault(item, []).append(piece)
        return found


PRODUCT_STRENGTH: Final = 2.0
"""How closely a link to the product itself links; categories are below."""

_NONE: Final = np.zeros(0, np.int32)
_NOTHING: Final[Weights] = np.zeros(0, np.float32)


def open_library(bundle: Bundle, catalog: Catalog) -> Library:
    """The content of a bundle that has some."""
    return Library(open_columns(bundle), catalog, bundle.column(VECTORS))


def _language(locale: str) -> str:
    return locale.partition("-")[0].lower()


def _summary(body: str) -> str:
    """The beginning of a text, up to the end of a sentence where there is one."""
    first = body.split("\n\n", 1)[0].strip()
    if len(first) <= SUMMARY_CHARACTERS:
        return first
    cut = first[:SUMMARY_CHARACTERS]
    end = max(cut.rfind(mark) for mark in (". ", "。", "! ", "? ", "！", "？"))
    return cut[: end + 1].strip() if end > SUMMARY_CHARACTERS // 3 else cut.rstrip() + "…"

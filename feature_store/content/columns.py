"""Content in a bundle: pieces, their languages, their passages, and how they are found.

A piece is one item in one or more languages, which are its versions. Heads (titles and other words
that shoppers use) and passages (paragraphs) are its units: what a question is compared with. It is
written by `offline.content.section` and knows no request.
"""

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle, BundleWriter, StringTable
from feature_store.language.postings import Postings

SECTION: Final = "content"
SETTINGS_FILE: Final = f"{SECTION}/settings.json"
INDEXES: Final = ("words", "head_words", "grams", "head_grams")
_STRINGS: Final = ("id", "kind", "language", "title", "body", "url", "image_url", "author")


@dataclass(frozen=True, slots=True)
class ContentColumns:
    """All columns, memory-mapped.

    Pieces, sorted by id: `id`, `kind`, `first_time` and `last_time` (shown from, and before, these
    microseconds UTC), `shown` and `acted` (how often), `vectors` of length 1, shape (pieces,
    dimension), `sorted_keys` and `sorted_index` (64-bit keys, as of items), `base` (the share of
    the shop's purchases in what the piece is linked to).
    Versions: `version_piece`, `language`, `title`, `body`, `url`, `image_url`, `author`.
    Units, by piece: `unit_starts` (where the units of each piece begin), `unit_version`,
    `unit_begin` and `unit_end` (the passage within the body; -1 for a head), `unit_vectors` in the
    space in which pieces lie apart: (vector - `centre`) @ `metric`, made of length 1. In that space
    `class_weights`, shape (pieces, dimension), and `class_bias` tell pieces apart; both empty when
    that was not learned. In the encoder's space: `head_vectors`, of all heads in the order of the
    units, and `outside_vectors`, of questions that no piece answers.
    Links: `item_path` (the category of each product, -1 for none), the pieces and strengths linked
    to category c at `path_starts[c]:path_starts[c + 1]`; products of piece p at
    `product_starts[p]:product_starts[p + 1]` of `product_items`.
    """

    id: StringTable
    kind: StringTable
    language: StringTable
    title: StringTable
    body: StringTable
    url: StringTable
    image_url: StringTable
    author: StringTable
    first_time: NDArray[np.int64]
    last_time: NDArray[np.int64]
    shown: NDArray[np.float32]
    acted: NDArray[np.float32]
    vectors: NDArray[np.float32]
    sorted_keys: NDArray[np.uint64]
    sorted_index: NDArray[np.int32]
    base: NDArray[np.float32]
    version_piece: NDArray[np.int32]
    unit_starts: NDArray[np.int64]
    unit_version: NDArray[np.int32]
    unit_begin: NDArray[np.int32]
    unit_end: NDArray[np.int32]
    unit_vectors: NDArray[np.float32]
    centre: NDArray[np.float32]
    metric: NDArray[np.float32]
    class_weights: NDArray[np.float32]
    class_bias: NDArray[np.float32]
    head_vectors: NDArray[np.float32]
    outside_vectors: NDArray[np.float32]
    item_path: NDArray[np.int32]
    path_starts: NDArray[np.int64]
    path_pieces: NDArray[np.int32]
    path_strengths: NDArray[np.float32]
    product_starts: NDArray[np.int64]
    product_items: NDArray[np.int32]

    def __len__(self) -> int:
        """The number of pieces."""
        return len(self.id)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The piece of each 64-bit key, -1 where there is none."""
        places = np.minimum(np.searchsorted(self.sorted_keys, keys), len(self.sorted_keys) - 1)
        hit = self.sorted_keys[places] == keys
        return np.where(hit, self.sorted_index[places], np.int32(-1)).astype(np.int32)

    def linked(self, path: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The pieces linked to a category, and how closely."""
        rows = slice(self.path_starts[path], self.path_starts[path + 1])
        return self.path_pieces[rows], self.path_strengths[rows]


def has_content(bundle: Bundle) -> bool:
    """Whether a bundle has anything to read."""
    return SETTINGS_FILE in bundle.manifest.files


def open_columns(bundle: Bundle) -> ContentColumns:
    """The columns of a bundle that has content."""
    columns: dict[str, Any] = {
        field.name: _open(bundle, field.name) for field in fields(ContentColumns)
    }
    return ContentColumns(**columns)


def _open(bundle: Bundle, name: str) -> StringTable | NDArray[Any]:
    return bundle.strings(_at(name)) if name in _STRINGS else bundle.array(_at(name))


def write_columns(writer: BundleWriter, name: str, values: NDArray[np.generic] | list[str]) -> None:
    """Write one column under the name of its field."""
    if isinstance(values, list):
        writer.strings(_at(name), values)
    else:
        writer.array(_at(name), values)


def open_postings(bundle: Bundle, name: str) -> Postings:
    """One of INDEXES."""
    parts = {part: bundle.array(_at(f"{name}/{part}")) for part in _POSTINGS}
    return Postings(**parts, num_texts=int(bundle.array(_at(f"{name}/num_texts"))[0]))


def write_postings(writer: BundleWriter, name: str, postings: Postings) -> None:
    """Write one of INDEXES."""
    for part in _POSTINGS:
        writer.array(_at(f"{name}/{part}"), getattr(postings, part))
    writer.array(_at(f"{name}/num_texts"), np.array([postings.num_texts], np.int64))


_POSTINGS: Final = ("keys", "idf", "starts", "texts", "weights")


def _at(name: str) -> str:
    return f"{SECTION}/{name}"

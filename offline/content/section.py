"""The content section of a bundle: texts become units, vectors and postings, links become arrays.

Layout and names are those of `feature_store.content.columns`.
"""

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from feature_store.bundle import BundleWriter
from feature_store.content.columns import SETTINGS_FILE, write_columns, write_postings
from feature_store.ids import hash64_many
from feature_store.language.cutting import search_grams, search_words
from feature_store.language.encoder import TextEncoder, Vectors
from feature_store.language.postings import bm25_postings, cosine_postings
from offline.content.dataset import ContentData
from offline.content.links import write_links

ANSWERING: Final = Path(__file__).with_name("answering.json")
"""How questions are answered, see `offline.content.tuning`."""

NEVER: Final = 2**62
"""An instant after all others."""

METRIC_DIMENSION: Final = 256
SHRINKAGE: Final = 0.3
MIN_HEADS: Final = 200
"""Fewer titles and phrases say nothing of how the same thing is asked in different words."""

OUTSIDE: Final = Path(__file__).parents[1] / "texts" / "content" / "outside.jsonl"
"""Questions that a shop's content seldom answers."""

ANSWERED_COSINE: Final = 0.65
"""A head so near to one of them says that this shop does answer it."""

MAX_CLASSES: Final = 2_000
CLASS_C: Final = 1.0
CLASS_SCALE: Final = 3.0
PASSAGE_WEIGHT: Final = 0.3

_PARAGRAPHS: Final = re.compile(r"\n\s*\n")
_TINY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Unit:
    """What a question is compared with: a head, or the passage `begin` to `end` of a body."""

    piece: int
    version: int
    text: str
    begin: int = -1
    end: int = -1


def write_content(
    writer: BundleWriter,
    data: ContentData,
    items: pl.DataFrame,
    purchased: NDArray[np.int32],
    encoder: TextEncoder,
) -> None:
    """Write the section; nothing at all for a shop without content.

    `items` is the product table in the order of the bundle's indexes, `purchased` the item of each
    purchase.
    """
    if not len(data):
        return
    pieces = data.rows["item"].unique().sort().to_list()
    number = {piece: place for place, piece in enumerate(pieces)}
    versions = data.rows.to_dicts()
    units = units_of(versions, number)
    vectors = encoder.encode([unit.text for unit in units])
    heads = vectors[[unit.begin < 0 for unit in units]]
    write_columns(writer, "head_vectors", heads)
    answering = dict(data.answering or json.loads(ANSWERING.read_text(encoding="utf-8")))
    outside = answering.pop("outside", None) or read_outside()
    write_columns(writer, "outside_vectors", outside_vectors(heads, outside, encoder))
    _write_pieces(writer, data, pieces, versions, number)
    _write_units(writer, units, vectors, len(pieces))
    _write_indexes(writer, units, versions, len(pieces), number)
    write_links(writer, versions, number, items, purchased)
    writer.json(SETTINGS_FILE, {"space": encoder.space, "answering": answering})


def units_of(versions: list[dict[str, Any]], number: dict[str, int]) -> list[Unit]:
    """The title, phrases and paragraphs of every version, by piece."""
    units: list[Unit] = []
    for version, row in enumerate(versions):
        piece = number[row["item"]]
        heads = dict.fromkeys((row["title"], *(row["phrases"] or ())))
        units += [Unit(piece, version, head) for head in heads]
        units += [
            Unit(piece, version, row["body"][begin:end], begin, end)
            for begin, end in paragraphs(row["body"])
        ]
    return units


def read_outside(path: Path = OUTSIDE) -> list[str]:
    """Questions that no piece answers: the `text` of each line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines if line]


def outside_vectors(heads: Vectors, outside: list[str], encoder: TextEncoder) -> Vectors:
    """Vectors of questions that no piece answers, shape (questions, dimension).

    Those that a head comes near to are left out: this shop answers them.
    """
    vectors = encoder.encode(outside)
    nearest = (vectors @ heads.T).max(axis=1, initial=-1.0)
    kept: Vectors = vectors[nearest < ANSWERED_COSINE]
    return kept


def paragraphs(body: str) -> list[tuple[int, int]]:
    """Where the paragraphs of a text begin and end."""
    breaks = [(0, 0), *(found.span() for found in _PARAGRAPHS.finditer(body)), (len(body),) * 2]
    spans = [(before[1], after[0]) for before, after in pairwise(breaks)]
    return [(begin, end) for begin, end in spans if body[begin:end].strip()]


def _write_pieces(
    writer: BundleWriter,
    data: ContentData,
    pieces: list[str],
    versions: list[dict[str, Any]],
    number: dict[str, int],
) -> None:
    first = data.rows.unique("item", keep="first", maintain_order=True).sort("item")
    counts = first.select("item").join(data.counts, on="item", how="left", maintain_order="left")
    keys = hash64_many(pieces)
    order = np.argsort(keys)
    columns: dict[str, NDArray[np.generic] | list[str]] = {
        "id": pieces,
        "kind": first["kind"].to_list(),
        "first_time": _instants(first["publish_time"], 0),
        "last_time": _instants(first["expire_time"], NEVER),
        "shown": counts["shown"].fill_null(0).to_numpy().astype(np.float32),
        "acted": counts["acted"].fill_null(0).clip(0).to_numpy().astype(np.float32),
        "sorted_keys": keys[order],
        "sorted_index": order.astype(np.int32),
        "version_piece": np.array([number[row["item"]] for row in versions], np.int32),
    }
    for name in ("language", "title", "body", "url", "image_url", "author"):
        columns[name] = [row[name] or "" for row in versions]
    for name, values in columns.items():
        write_columns(writer, name, values)


def _instants(times: pl.Series, default: int) -> NDArray[np.int64]:
    values: NDArray[np.int64] = times.dt.epoch("us").fill_null(default).to_numpy()
    return values


def _write_units(
    writer: BundleWriter, units: list[Unit], vectors: Vectors, num_pieces: int
) -> None:
    owner = np.array([unit.piece for unit in units])
    is_head = np.array([unit.begin < 0 for unit in units])
    centre, metric = learn_metric(vectors[is_head], owner[is_head])
    moved = _unit_length((vectors - centre) @ metric)
    weights, bias = learn_classes(moved, owner, is_head)
    means = np.stack([vectors[owner == piece].mean(axis=0) for piece in range(num_pieces)])
    columns: dict[str, NDArray[np.generic]] = {
        "vectors": _unit_length(means),
        "unit_starts": np.searchsorted(owner, np.arange(num_pieces)).astype(np.int64),
        "unit_version": np.array([unit.version for unit in units], np.int32),
        "unit_begin": np.array([unit.begin for unit in units], np.int32),
        "unit_end": np.array([unit.end for unit in units], np.int32),
        "unit_vectors": moved,
        "centre": centre,
        "metric": metric,
        "class_weights": weights,
        "class_bias": bias,
    }
    for name, values in columns.items():
        write_columns(writer, name, values)


def learn_metric(heads: Vectors, owner: NDArray[np.int64]) -> tuple[Vectors, Vectors]:
    """The centre, and directions in which different words for one piece lie close together.

    Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006) with shrinkage, then
    the directions in which pieces differ most; shape (dimension, at most METRIC_DIMENSION). With
    few heads nothing is learned: the identity.
    """
    dimension = heads.shape[1]
    if len(heads) < MIN_HEADS:
        return np.zeros(dimension, np.float32), np.eye(dimension, dtype=np.float32)
    centre = heads.mean(axis=0)
    pieces, places = np.unique(owner, return_inverse=True)
    sums = np.zeros((len(pieces), dimension))
    np.add.at(sums, places, heads)
    means = sums / np.bincount(places)[:, None]
    within = np.cov((heads - means[places]).T)
    within += SHRINKAGE * np.trace(within) / dimension * np.eye(dimension)
    values, axes = np.linalg.eigh(within)
    whitened = axes / np.sqrt(values)
    between = (means - centre) @ whitened
    _, directions = np.linalg.eigh(between.T @ between)
    metric = whitened @ directions[:, ::-1][:, :METRIC_DIMENSION]
    return centre.astype(np.float32), metric.astype(np.float32)


def learn_classes(
    units: Vectors, owner: NDArray[np.int64], is_head: NDArray[np.bool_]
) -> tuple[Vectors, Vectors]:
    """Weights, shape (pieces, dimension), and bias that tell pieces apart by their units.

    Multinomial logistic regression, passages counting less than heads. Nothing is learned of few
    heads, of a single piece, or of more pieces than it takes a moment for.
    """
    num_pieces = int(owner.max()) + 1
    if is_head.sum() < MIN_HEADS or not 2 < num_pieces <= MAX_CLASSES:
        return np.zeros((0, units.shape[1]), np.float32), np.zeros(0, np.float32)
    model = LogisticRegression(C=CLASS_C, max_iter=60, tol=1e-3)
    model.fit(CLASS_SCALE * units, owner, sample_weight=np.where(is_head, 1.0, PASSAGE_WEIGHT))
    weights = CLASS_SCALE * model.coef_
    return weights.astype(np.float32), model.intercept_.astype(np.float32)


def _unit_length(vectors: NDArray[np.floating]) -> Vectors:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
    return np.asarray(vectors / lengths, np.float32)


def _write_indexes(
    writer: BundleWriter,
    units: list[Unit],
    versions: list[dict[str, Any]],
    num_pieces: int,
    number: dict[str, int],
) -> None:
    heads: list[list[str]] = [[] for _ in range(num_pieces)]
    texts: list[list[str]] = [[] for _ in range(num_pieces)]
    for row in versions:
        piece = number[row["item"]]
        heads[piece] += [row["title"], *(row["phrases"] or ()), " ".join(row["tags"] or ())]
        texts[piece].append(row["body"])
    whole = [[*some, *others] for some, others in zip(heads, texts, strict=True)]
    write_postings(writer, "words", bm25_postings([_terms(search_words, each) for each in whole]))
    write_postings(
        writer, "head_words", bm25_postings([_terms(search_words, each) for each in heads])
    )
    write_postings(writer, "grams", cosine_postings([_terms(search_grams, each) for each in whole]))
    single = [search_grams(unit.text) for unit in units if unit.begin < 0]
    write_postings(writer, "head_grams", cosine_postings(single))


def _terms(cut: Any, texts: list[str]) -> list[str]:
    return [term for text in texts for term in cut(text)]

"""Learn everything of a recipe from a dataset and write it as one bundle."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle, BundleWriter
from feature_store.catalog_log import TAKEN_IN_FILE
from feature_store.ids import hash64_many
from feature_store.language.encoder import TextEncoder
from feature_store.ranking import (
    FEATURES_FILE,
    ITEM_FEATURES,
    MODEL_FILE,
    ItemColumns,
    feature_names,
)
from feature_store.two_tower import rated_with
from offline.chat.section import write_understanding
from offline.chat.vocabulary import write_vocabulary
from offline.content.section import write_content
from offline.coupons.learning import learn_coupons, write_learned
from offline.dataset import Dataset
from offline.errors import TrainingDataError
from offline.index import Device, build_index, save_index
from offline.item_attributes import write_attributes
from offline.item_lists import write_lists
from offline.item_texts import write_texts
from offline.models.als import fit_als
from offline.models.item_columns import fit_item_columns
from offline.models.linear import fit_linear
from offline.models.popularity import (
    Popularity,
    above_zero,
    fit_popularity,
    fit_recent_popularity,
    ordered,
)
from offline.models.ranker import Ranker as FittedRanker
from offline.progress import Progress
from offline.recipe import PopularityConfig, Recipe
from offline.two_tower import write_two_tower
from offline.visits import write_transitions
from online.offering.rules import RULES_FILE, Rule, write_rules


def build_bundle(
    dataset: Dataset,
    recipe: Recipe,
    bundles: Path,
    role: bundle_pb2.Role.ValueType,
    device: Device,
    progress: Progress,
    ranker: FittedRanker | None = None,
    rules: Sequence[Rule] = (),
    encoder: TextEncoder | None = None,
) -> Bundle:
    """Fit the sources of the recipe and write a bundle into the folder `bundles`.

    `ranker` is learned from bundles of the past (`offline.rank`), so it comes from outside.
    `rules` are the shop's, see `offline.rules`. Without an `encoder` the bundle has neither
    content nor products as text.
    """
    with BundleWriter(bundles) as writer:
        written = write_sources(writer, dataset, recipe, role, device, progress, encoder)
        return commit_bundle(writer, written, recipe, ranker, rules)


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_sources` wrote: of which role, as of when, and how many items of each corpus."""

    role: bundle_pb2.Role.ValueType
    horizon_time: int
    num_items: Mapping[str, int]


def write_sources(
    writer: BundleWriter,
    dataset: Dataset,
    recipe: Recipe,
    role: bundle_pb2.Role.ValueType,
    device: Device,
    progress: Progress,
    encoder: TextEncoder | None = None,
) -> Written:
    """Fit and write all of a bundle that needs neither the ranker nor the rules."""
    profiles = dataset.profiles(recipe.profile_half_life)
    als = fit_als(profiles, recipe.als, recipe.seed, progress)
    with progress.task("Linear filter", 1) as advance:
        linear = fit_linear(profiles, recipe.linear)
        advance(1)
    columns = fit_item_columns(dataset)
    available = dataset.items["available"].fill_null(True).to_numpy()
    _write_items(writer, dataset, available)
    write_attributes(writer, dataset)
    write_vocabulary(writer, dataset)
    if recipe.understands and role == bundle_pb2.ROLE_REFIT:
        write_understanding(writer, dataset, recipe.seed, progress, encoder)
    write_lists(writer, dataset, available, recipe.popularity)
    if encoder is not None:
        _write_reading(writer, dataset, encoder)
    learns = role == bundle_pb2.ROLE_REFIT
    observed = recipe.acts_on_observed
    found = learn_coupons(dataset, recipe.seed, acts_on_observed=observed) if learns else None
    write_learned(writer, dataset, found)
    writer.json(TAKEN_IN_FILE, {"sequence": dataset.taken_in})
    for name, popularity in popular_lists(dataset, columns, recipe.popularity).items():
        _write_popularity(writer, name, popularity, available)
    writer.array("als/gram", als.gram)
    _write_vectors(writer, "als", als.item_vectors, recipe, device)
    _write_vectors(writer, "als_similar", _directions(als.item_vectors), recipe, device)
    writer.array("linear/row", linear.row)
    writer.array("linear/neighbours", linear.neighbours)
    writer.array("linear/weights", linear.weights)
    if recipe.two_tower.is_served:
        write_two_tower(writer, dataset, recipe, device, progress)
    if recipe.transitions.is_served:
        kept = recipe.transitions.num_neighbours
        write_transitions(writer, dataset.visits, dataset.num_items, kept)
    _write_columns(writer, columns)
    writer.json("serving.json", _serving(recipe))
    return Written(role, dataset.horizon_time, _num_items(dataset, has_content=encoder is not None))


def commit_bundle(
    writer: BundleWriter,
    written: Written,
    recipe: Recipe,
    ranker: FittedRanker | None = None,
    rules: Sequence[Rule] = (),
    metrics: Mapping[str, float] | None = None,
) -> Bundle:
    """Add the ranker and the rules to the sources, and make it a bundle.

    `metrics` are what the run measured, for the manifest.
    """
    writer.json(RULES_FILE, write_rules(rules))
    if ranker is not None:
        writer.data(MODEL_FILE, ranker.onnx)
        rated = rated_with(two_tower=recipe.two_tower.is_served)
        writer.json(FEATURES_FILE, list(feature_names(rated)))
    return writer.commit(
        horizon_time=written.horizon_time,
        seed=recipe.seed,
        recipe=recipe.to_dict(),
        role=written.role,
        num_items=written.num_items,
        code_revision=code_revision(),
        metrics=metrics,
    )


def _serving(recipe: Recipe) -> dict[str, float]:
    return {
        "als_alpha": recipe.als.alpha,
        "repeat_half_life": recipe.repeat_half_life,
        "profile_half_life": recipe.profile_half_life,
    }


def _write_reading(writer: BundleWriter, dataset: Dataset, encoder: TextEncoder) -> None:
    """What is read: products as texts, and content in the same space."""
    write_texts(writer, dataset.items, encoder)
    purchased = dataset.purchases.item
    write_content(writer, dataset.content, dataset.items, purchased, encoder)


def _num_items(dataset: Dataset, *, has_content: bool) -> dict[str, int]:
    counts = {
        "product": dataset.num_items,
        "content": dataset.content.num_pieces if has_content else 0,
        "coupon": len(dataset.coupons),
    }
    return {corpus: count for corpus, count in counts.items() if count or corpus == "product"}


def code_revision() -> str:
    """The commit of the code that runs, empty where there is no Git checkout."""
    root = Path(__file__).parent.parent
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def last_prices(dataset: Dataset) -> NDArray[np.float32]:
    """What each item costs at the horizon, shape (items,), NaN where unknown.

    The price of the product table where it has one, else the last price paid before the
    horizon: a table without prices must not learn them from the future.
    """
    known = dataset.items["price"].to_numpy().astype(np.float32)
    paid = np.full(dataset.num_items, np.nan, np.float32)
    paid[dataset.purchases.item] = dataset.purchases.price  # sorted by time: the last one stays
    return np.where(np.isnan(known), paid, known).astype(np.float32)


def _write_items(writer: BundleWriter, dataset: Dataset, available: NDArray[np.bool_]) -> None:
    for column, name in (("item", "id"), *((c, c) for c in ("title", "category", "brand"))):
        writer.strings(f"items/{name}", _texts(dataset.items[column]))
    for name in ("image_url", "url"):
        writer.strings(f"items/{name}", _texts(dataset.items[name]))
    keys = hash64_many(dataset.items["item"].to_list())
    order = np.argsort(keys)
    if (np.diff(keys[order]) == 0).any():
        raise TrainingDataError(
            "two item ids have the same 64-bit key, which happens once in 10^7 shops of a "
            "million items; rename one of them"
        )
    writer.array("items/sorted_keys", keys[order])
    writer.array("items/sorted_index", order.astype(np.int32))
    writer.array("items/price", last_prices(dataset))
    margin = dataset.items["margin"].cast(pl.Float32).fill_null(float("nan"))
    writer.array("items/margin", margin.to_numpy())
    writer.array("items/available", available)


def _texts(column: pl.Series) -> list[str]:
    return column.fill_null("").to_list()


def _write_popularity(
    writer: BundleWriter, name: str, fitted: Popularity, available: NDArray[np.bool_]
) -> None:
    sold = available[fitted.order]
    order = fitted.order[sold]
    rank = np.full(len(available), len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    writer.array(f"{name}/order", order)
    writer.array(f"{name}/score", fitted.score[sold])
    writer.array(f"{name}/rank", rank)


def popular_lists(
    dataset: Dataset, columns: ItemColumns, config: PopularityConfig
) -> dict[str, Popularity]:
    """The lists that everybody is shown from, see `online.placements.POPULAR_LISTS`.

    `popular`, which fills what the others leave empty, holds every item; the others only those
    of which they say something.
    """
    week, month, first_week, first_month, promo = (
        np.expm1(columns.values[:, ITEM_FEATURES.index(name)])
        for name in ("buyers_7", "buyers_28", "first_buyers_7", "first_buyers_28", "promo")
    )
    rising = 4.0 * first_week + first_month
    some = {
        "popular_recent": fit_recent_popularity(
            dataset.purchases, dataset.num_items, dataset.horizon_time, config
        ),
        "popular_week": ordered(week + 1e-6 * month),
        "rising": ordered(rising),
        "promoted": ordered(np.log1p(promo) * rising),
    }
    return {
        "popular": fit_popularity(dataset.purchases, dataset.num_items),
        **{name: above_zero(fitted) for name, fitted in some.items()},
    }


def _write_columns(writer: BundleWriter, columns: ItemColumns) -> None:
    """What ranking knows of each item, and the affinity source's lists by type."""
    writer.array("ranking/values", columns.values)
    writer.array("ranking/groups", columns.groups)
    writer.array("ranking/first_time", columns.first_time)
    month, first_month = (
        np.expm1(columns.values[:, ITEM_FEATURES.index(name)])
        for name in ("buyers_28", "first_buyers_28")
    )
    appeal = np.log1p(first_month + 0.1 * month).astype(np.float32)
    types = columns.groups[:, 0]
    order = np.lexsort((-appeal, types)).astype(np.int32)
    starts = np.searchsorted(types[order], np.arange(int(types.max()) + 2))
    writer.array("affinity/appeal", appeal)
    writer.array("affinity/order", order)
    writer.array("affinity/starts", starts.astype(np.int64))


def _write_vectors(
    writer: BundleWriter, name: str, vectors: NDArray[np.float32], recipe: Recipe, device: Device
) -> None:
    writer.array(f"{name}/vectors", vectors)
    built = build_index(vectors, recipe.index, device, recipe.seed)
    save_index(built, writer.file(f"{name}/index.faiss"))


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1, so that an inner product is a cosine."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions: NDArray[np.float32] = vectors / np.maximum(length, 1e-12)
    return directions

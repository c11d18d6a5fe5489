"""Lists of items that sources read from: neighbours, what sells in each category, what is new.

It knows what a bundle holds of them, and not who is shown what.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.codes import category_tree
from offline.dataset import Dataset
from offline.item_attributes import created_times
from offline.models.item_to_item import Neighbours, fit_also_bought, fit_bought_with
from offline.models.popularity import fit_popularity, fit_recent_popularity
from offline.recipe import PopularityConfig

MAX_NEW: Final = 20_000


def write_lists(
    writer: BundleWriter,
    dataset: Dataset,
    available: NDArray[np.bool_],
    config: PopularityConfig,
) -> None:
    """Fit and write what the sources of `online.browsing` and `online.neighbours` read."""
    purchases, num_items = dataset.purchases, dataset.num_items
    _write_neighbours(writer, "bought_with", fit_bought_with(purchases, num_items))
    _write_neighbours(writer, "also_bought", fit_also_bought(purchases, num_items))
    _, path, ends = category_tree(dataset.items["category"].fill_null("").to_list())
    recent = fit_recent_popularity(purchases, num_items, dataset.horizon_time, config)
    always = fit_popularity(purchases, num_items)
    score = np.zeros(num_items, np.float32)
    score[recent.order] = recent.score
    score[always.order] += np.float32(1e-3) * always.score
    order = np.lexsort((-score, path)).astype(np.int32)
    order = order[available[order]]
    writer.array("by_category/order", order)
    writer.array("by_category/score", score[order])
    writer.array("by_category/starts", np.searchsorted(path[order], np.arange(len(ends) + 1)))
    created = created_times(dataset.items, purchases)
    newest = np.lexsort((np.arange(num_items), -created)).astype(np.int32)
    writer.array("new_arrivals/order", newest[available[newest]][:MAX_NEW])


def _write_neighbours(writer: BundleWriter, name: str, fitted: Neighbours) -> None:
    writer.array(f"{name}/ends", fitted.ends)
    writer.array(f"{name}/items", fitted.items)
    writer.array(f"{name}/scores", fitted.scores)

"""The two-tower as a section of the bundle: an index of item vectors, and the user tower as ONNX.

What is served is the dense part: a vector index cannot hold the towers' affinities, which are a
sum over hundreds of features. Histories are the profiles that serving makes, `profile_half_life`
of the recipe, in the order of the last purchases. Beside the items' vectors it writes those of the
features that items share, so that a product that comes later has a vector too.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import BundleWriter
from feature_store.two_tower import (
    BUCKET_SALIENCE,
    BUCKET_VECTORS,
    BUCKETS,
    INDEX,
    LENGTH,
    SALIENCE,
    SETTINGS,
    USER_TOWER,
    VECTORS,
)
from offline.dataset import Dataset
from offline.index import Device, build_index, save_index
from offline.models.two_tower.data import Ids, Ragged, TrainingData
from offline.models.two_tower.export import export_user_tower
from offline.models.two_tower.features import ItemFacts, describe
from offline.models.two_tower.fitted import FittedTowers, latest
from offline.models.two_tower.model import TowerConfig
from offline.models.two_tower.sampling import SamplingConfig
from offline.models.two_tower.train import TrainConfig, TwoTowerConfig, fit
from offline.progress import Progress
from offline.recipe import Recipe

NUM_PROBES: Final = 500
SMALLEST: Final = 1e-6
"""The least that counts as having had an item, however long ago."""


def write_two_tower(
    writer: BundleWriter, dataset: Dataset, recipe: Recipe, device: Device, progress: Progress
) -> None:
    """Learn and write it, as `feature_store.two_tower` says."""
    config = recipe.two_tower
    data = training_data(dataset, recipe)
    num_features = dataset.num_items + config.num_buckets
    towers = fit(data, _config(recipe, num_features, device), progress).towers
    probes = _taken(latest(data.histories, config.max_history), NUM_PROBES)
    writer.data(USER_TOWER, export_user_tower(towers, _taken(probes, 8)))
    writer.array(VECTORS, towers.units.numpy())
    writer.array(LENGTH, np.linalg.norm(towers.vectors.numpy(), axis=1))
    writer.array(SALIENCE, towers.salience.numpy())
    _write_buckets(writer, towers, data)
    typical = towers.embed(probes)
    built = build_index(towers.units.numpy(), recipe.index, device, recipe.seed, typical)
    save_index(built, writer.file(INDEX))
    writer.json(
        SETTINGS,
        {
            "half_life": recipe.profile_half_life,
            "max_history": config.max_history,
            "num_buckets": config.num_buckets,
        },
    )


def training_data(dataset: Dataset, recipe: Recipe) -> TrainingData:
    """Users' items in the order of their last purchases, and what each item is like."""
    is_known = np.bincount(dataset.purchases.item, minlength=dataset.num_items) > 0
    catalogue = describe(facts_of(dataset), recipe.two_tower.num_buckets, is_known)
    return TrainingData(
        histories_of(dataset, recipe.profile_half_life), catalogue, dataset.num_items
    )


def histories_of(dataset: Dataset, half_life: int) -> Ragged:
    """The distinct items of each user, the last bought last, with their strength in the profile."""
    profiles, bought = dataset.profiles(half_life), dataset.purchases
    profiles.sort_indices()
    key = bought.user.astype(np.int64) * dataset.num_items + bought.item
    order = np.argsort(key, kind="stable")  # sorted by time before: the last of each key is latest
    is_last = np.append(np.diff(key[order]) != 0, True)[: len(order)]
    time = bought.time[order[is_last]]
    user = np.repeat(np.arange(profiles.shape[0]), np.diff(profiles.indptr))
    by_time = np.lexsort((time, user))
    return Ragged(
        profiles.indptr.astype(np.int64),
        profiles.indices.astype(np.int64)[by_time],
        np.maximum(profiles.data, np.float32(SMALLEST))[by_time],
    )


def facts_of(dataset: Dataset) -> ItemFacts:
    """What the catalogue says; the price, where it has none, is the last one paid."""
    category, brand, title = (
        dataset.items[name].fill_null("").to_list() for name in ("category", "brand", "title")
    )
    price = dataset.items["price"].to_numpy().astype(np.float32)
    paid = np.full(dataset.num_items, np.nan, np.float32)
    paid[dataset.purchases.item] = dataset.purchases.price
    return ItemFacts(category, brand, title, np.where(np.isnan(price), paid, price))


def _config(recipe: Recipe, num_features: int, device: Device) -> TwoTowerConfig:
    chosen = recipe.two_tower
    return TwoTowerConfig(
        TowerConfig(
            num_features,
            dim=chosen.dim,
            temperature=chosen.temperature,
            attention=chosen.attention,
        ),
        SamplingConfig(
            users_per_step=chosen.users_per_step,
            num_uniform=chosen.num_uniform,
            hidden_share=chosen.hidden_share,
            anonymous_share=chosen.anonymous_share,
        ),
        TrainConfig(
            num_epochs=chosen.num_epochs,
            learning_rate=chosen.learning_rate,
            seed=recipe.seed,
            device=device,
        ),
    )


def _write_buckets(writer: BundleWriter, towers: FittedTowers, data: TrainingData) -> None:
    """What is shared by items: the buckets that training has seen."""
    shared: NDArray[np.int64] = np.unique(data.catalogue.ids[data.catalogue.ids >= data.num_own])
    writer.array(BUCKETS, shared - data.num_own)
    for name, table in (
        (BUCKET_VECTORS, towers.model.features),
        (BUCKET_SALIENCE, towers.model.salience[:, 0]),
    ):
        writer.array(name, table.detach().numpy()[shared])


def _taken(histories: Ragged, number: int) -> Ragged:
    """The first histories."""
    users: Ids = np.arange(min(number, len(histories)))
    places, owner = histories.places(users)
    starts = np.searchsorted(owner, np.arange(len(users) + 1))
    weights = histories.weights
    return Ragged(starts, histories.ids[places], None if weights is None else weights[places])

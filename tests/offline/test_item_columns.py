"""What ranking knows of items, against what was put into a small shop."""

import numpy as np
import polars as pl

from feature_store.ranking import GROUPS, ITEM_FEATURES
from feature_store.schema import MICROSECONDS_PER_DAY as DAY
from offline.dataset import Dataset, Purchases
from offline.models.item_columns import NUM_PRICE_BANDS, fit_item_columns

NUM_ITEMS = 10
HORIZON = 200 * DAY


def dataset() -> Dataset:
    """Ten items of one type at 1 to 10; the last week item 9 costs half, item 0 as always.

    A basket holds items 0 to 4 of user 0, and one each of user 1.
    """
    rows = [(0, item, 150, item + 1.0) for item in range(5)]
    rows += [(1, item, 151 + item, item + 1.0) for item in range(5, NUM_ITEMS)]
    rows += [(1, 9, 196, 5.0), (1, 0, 197, 1.0)]
    user, item, day, price = (np.array(column) for column in zip(*rows, strict=True))
    items = pl.DataFrame(
        {
            "item": [f"i{number}" for number in range(NUM_ITEMS)],
            "category": ["food/bread"] * NUM_ITEMS,
            "brand": ["own"] * NUM_ITEMS,
        }
    )
    purchases = Purchases(
        user.astype(np.int32), item.astype(np.int32), day * DAY, price.astype(np.float32)
    )
    return Dataset(("a", "b"), items, purchases, HORIZON)


def column(name: str) -> list[float]:
    values = fit_item_columns(dataset()).values
    return [float(value) for value in values[:, ITEM_FEATURES.index(name)]]


def test_a_price_band_holds_a_fifth_of_a_type() -> None:
    bands = fit_item_columns(dataset()).groups[:, GROUPS.index("price_band")]
    assert bands[:9].tolist() == sorted(bands[:9].tolist())
    assert len(set(bands[:9].tolist())) == NUM_PRICE_BANDS
    assert np.bincount(bands - bands.min()).tolist() == [2] * NUM_PRICE_BANDS


def test_a_discount_is_what_the_last_week_cost_less() -> None:
    discount = column("discount")
    usual = (10.0 + 5.0) / 2
    np.testing.assert_allclose(discount[9], 1 - 5.0 / usual, rtol=1e-5)
    assert discount[:9] == [0.0] * 9


def test_basket_mates_are_bought_at_the_same_time() -> None:
    mates = column("basket_mates")
    assert min(mates[1:5]) > max(mates[5:])
    assert mates[0] < mates[1], "once with four others, once alone"

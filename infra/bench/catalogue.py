"""The synthetic shop's catalogue: which items there are, where they lie and how popular they are.

Plausible columns, drawn from one seed. Taste is about *cells*, a style within a category, so
that items have neighbours that a model can find, but far more cells than it has factors. It
knows no user and no model.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.schema import CATEGORY_SEPARATOR, MICROSECONDS_PER_DAY, PRODUCTS
from offline.ingest.tables import polars_schema

NUM_STYLES: Final = 16
NUM_DEPARTMENTS: Final = 20
ITEMS_PER_CATEGORY: Final = 2_500
POPULARITY_EXPONENT: Final = 0.8
POPULARITY_SHIFT: Final = 20.0
SHARE_UNAVAILABLE: Final = 0.02
REGIONS: Final = ("north", "south", "east", "west")
STYLES: Final = (
    "Plain", "Organic", "Bright", "Small", "Large", "Classic", "Fine", "Light",
    "Dark", "Fresh", "Soft", "Strong", "Mild", "Golden", "Simple", "Royal",
)  # fmt: skip
NOUNS: Final = (
    "Tea", "Bread", "Soap", "Pasta", "Juice", "Cheese", "Towel", "Lamp", "Rice", "Coffee",
    "Socks", "Honey", "Candle", "Yoghurt", "Pepper", "Brush", "Shirt", "Apple", "Fish", "Paper",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Items by index. `by_cell` lists the items cell by cell, category by category.

    `cell_ends[c]` is where cell c ends in `by_cell`; `heaped` is the cumulated popularity along
    `by_cell`, which starts with 0 and has one entry more.
    """

    category: NDArray[np.int32]
    style: NDArray[np.int32]
    price: NDArray[np.float32]
    created_day: NDArray[np.int32]
    by_cell: NDArray[np.int32]
    cell_ends: NDArray[np.int64]
    heaped: NDArray[np.float64]

    def __len__(self) -> int:
        """The number of items."""
        return len(self.category)

    @property
    def num_categories(self) -> int:
        """The number of categories."""
        return len(self.cell_ends) // NUM_STYLES

    def draw(
        self,
        first_cell: NDArray[np.int64],
        last_cell: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.int32]:
        """One item by popularity out of each range of cells, both ends included, shape (n,).

        A range without items stands for the whole shop.
        """
        ends = self.cell_ends[last_cell]
        starts = np.where(first_cell > 0, self.cell_ends[first_cell - 1], 0)
        empty = starts == ends
        starts, ends = np.where(empty, 0, starts), np.where(empty, len(self), ends)
        low, high = self.heaped[starts], self.heaped[ends]
        place = np.searchsorted(self.heaped, low + rng.random(len(low)) * (high - low), "right")
        return self.by_cell[np.clip(place - 1, starts, ends - 1)]


def draw_catalogue(num_items: int, num_days: int, rng: np.random.Generator) -> Catalogue:
    """A catalogue with Zipf-Mandelbrot popularity and categories of unequal size."""
    num_categories = max(NUM_DEPARTMENTS, num_items // ITEMS_PER_CATEGORY)
    category = _skewed(num_categories, num_items, rng)
    style = rng.integers(NUM_STYLES, size=num_items, dtype=np.int32)
    rank = rng.permutation(num_items)
    popularity = (rank + POPULARITY_SHIFT) ** -POPULARITY_EXPONENT
    cell = category.astype(np.int64) * NUM_STYLES + style
    by_cell = np.argsort(cell, kind="stable").astype(np.int32)
    level = np.exp(rng.normal(1.8, 0.7, num_categories))
    price = level[category] * np.exp(rng.normal(0.0, 0.5, num_items))
    return Catalogue(
        category=category,
        style=style,
        price=np.maximum(0.19, price).round(2).astype(np.float32),
        created_day=np.minimum(num_days - 1, rng.exponential(num_days / 3, num_items)).astype(
            np.int32
        ),
        by_cell=by_cell,
        cell_ends=np.cumsum(np.bincount(cell, minlength=num_categories * NUM_STYLES)),
        heaped=np.concatenate(([0.0], np.cumsum(popularity[by_cell]))),
    )


def _skewed(num_kinds: int, size: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Kinds of which the first is most frequent, as 1 / sqrt(rank)."""
    weight = np.arange(1, num_kinds + 1) ** -0.5
    place = np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(size))
    return np.minimum(place, num_kinds - 1).astype(np.int32)


def item_ids(num_items: int) -> list[str]:
    """The shop's ids, in the order of the indexes."""
    return [f"p{number:08d}" for number in range(num_items)]


def product_table(catalogue: Catalogue, start_time: int, rng: np.random.Generator) -> pl.DataFrame:
    """The canonical product table, one row an item; `start_time` in microseconds UTC."""
    number = np.arange(len(catalogue))
    created = start_time + catalogue.created_day.astype(np.int64) * MICROSECONDS_PER_DAY
    brand = catalogue.category.astype(np.int64) * 7 + rng.integers(0, 40, len(catalogue))
    frame = pl.DataFrame(
        {
            "item": item_ids(len(catalogue)),
            "style": np.array(STYLES)[catalogue.style],
            "noun": np.array(NOUNS)[catalogue.category % len(NOUNS)],
            "category_number": catalogue.category,
            "brand_number": brand % 5_000,
            "number": number,
            "price": catalogue.price,
            "margin": rng.uniform(0.05, 0.5, len(catalogue)).astype(np.float32),
            "region_number": rng.integers(0, 2 * len(REGIONS), len(catalogue)),
            "available": rng.random(len(catalogue)) >= SHARE_UNAVAILABLE,
            "created_time": pl.Series(created).cast(pl.Datetime("us", "UTC")),
        }
    )
    return _described(frame).select(
        pl.col(name).cast(dtype) for name, dtype in polars_schema(PRODUCTS).items()
    )


def _described(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that are made of others. Half of the items are sold in one region only."""
    category = pl.col("category_number")
    path = pl.format(
        "Department {}{}Category {}",
        category % NUM_DEPARTMENTS,
        pl.lit(CATEGORY_SEPARATOR),
        category,
    )
    region = pl.col("region_number").replace_strict(
        dict(enumerate(REGIONS)), default=None, return_dtype=pl.String()
    )
    return frame.with_columns(
        pl.format("{} {} No. {}", "style", "noun", "number").alias("title"),
        path.alias("category"),
        pl.format("Brand {}", "brand_number").alias("brand"),
        pl.lit(None).alias("description"),
        pl.concat_list(pl.col("style").str.to_lowercase()).alias("tags"),
        pl.when(region.is_null()).then(None).otherwise(pl.concat_list(region)).alias("region"),
        pl.format("https://img.example/{}.jpg", "item").alias("image_url"),
        pl.format("https://shop.example/{}", "item").alias("url"),
    )

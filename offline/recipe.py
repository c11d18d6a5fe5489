"""Recipes: a function that returns the whole, frozen configuration of a training run.

There is no configuration file: a recipe is code that can be read, compared and tested, and
its values are written into the bundle. A shop adds a function here and names it in RECIPES.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from feature_store.schema import MICROSECONDS_PER_DAY
from feature_store.state import HALF_LIVES_DAYS


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which purchases and items take part, and where the past ends for judging.

    `cut_time` (microseconds UTC) parts training from test; None: the last
    `num_test_days` of the data are the test. `num_visit_days`: visits of so many days before the
    horizon are read.
    """

    min_users_per_item: int = 5
    exclude_departments: tuple[str, ...] = ()
    cut_time: int | None = None
    num_test_days: int = 30
    num_visit_days: int = 120


@dataclass(frozen=True, slots=True)
class PopularityConfig:
    """Popularity of late: distinct users within the last `num_recent_days`."""

    num_recent_days: int = 28


@dataclass(frozen=True, slots=True)
class AlsConfig:
    """Alternating least squares, see `offline.als`."""

    num_factors: int = 64
    alpha: float = 10.0
    regularization: float = 5.0
    num_iterations: int = 8


@dataclass(frozen=True, slots=True)
class LinearConfig:
    """The linear item-to-item filter, see `offline.models.linear`.

    Only the `max_items` most popular items take part: time and memory grow with their square.
    """

    l2: float = 300.0
    num_neighbours: int = 128
    max_items: int = 12_000


@dataclass(frozen=True, slots=True)
class RankerConfig:
    """The ranker, see `offline.models.ranker`: a boosted teacher and the network that is served.

    It learns from `num_cuts` past instants, each `label_days` before the next, with what was
    bought in the `label_days` after each. A like then is a positive that weighs `like_weight`, and
    adds it to a purchase; what was disliked or found of no interest is a negative that weighs
    `refusal_weight`, whatever was bought.
    """

    num_cuts: int = 2
    label_days: int = 30
    max_users_per_cut: int = 4_000
    negative_share: float = 0.25
    num_trees: int = 200
    num_leaves: int = 31
    learning_rate: float = 0.05
    min_rows_in_leaf: int = 300
    feature_share: float = 0.3
    hidden: tuple[int, ...] = (96, 48)
    num_epochs: int = 6
    batch_size: int = 4096
    network_learning_rate: float = 4e-3
    teacher_weight: float = 0.7
    like_weight: float = 0.5
    refusal_weight: float = 3.0


@dataclass(frozen=True, slots=True)
class TwoTowerSourceConfig:
    """The two-tower as a source, see `offline.two_tower`; unless `is_served` it is not learned.

    `max_history` is how many of a user's items, the latest, it is asked with.
    """

    is_served: bool = False
    dim: int = 64
    temperature: float = 0.1
    attention: bool = False
    num_buckets: int = 65_536
    max_history: int = 256
    users_per_step: int = 64
    num_uniform: int = 2_048
    hidden_share: float = 0.3
    anonymous_share: float = 0.3
    num_epochs: int = 3
    learning_rate: float = 0.015


@dataclass(frozen=True, slots=True)
class TransitionSourceConfig:
    """What visitors look at next, see `offline.visits`: learned where there are visits.

    Each item keeps the `num_neighbours` that follow it most.
    """

    is_served: bool = True
    num_neighbours: int = 60


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """Vector index: exact up to `max_exact_items`, beyond that the fastest with enough recall."""

    max_exact_items: int = 50_000
    min_recall: float = 0.95
    recall_at: int = 200


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a training run learns.

    The half-lives are positions in `feature_store.state.HALF_LIVES_DAYS`: how fast own purchases
    fade, and how fast they do in the profile that the filters see. `ranker` None: candidates are
    blended by the weights of the placement. `understands`: what serves also learns to understand
    shoppers, in English and Chinese. `acts_on_observed`: uplift of coupons serves also where no
    lots decided who could have them. `encoder` makes texts vectors: `embedded`, or the folder of a
    sentence-transformers model.
    """

    name: str
    seed: int = 7
    data: DataConfig = field(default_factory=DataConfig)
    popularity: PopularityConfig = field(default_factory=PopularityConfig)
    als: AlsConfig = field(default_factory=AlsConfig)
    linear: LinearConfig = field(default_factory=LinearConfig)
    two_tower: TwoTowerSourceConfig = field(default_factory=TwoTowerSourceConfig)
    transitions: TransitionSourceConfig = field(default_factory=TransitionSourceConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    ranker: RankerConfig | None = field(default_factory=RankerConfig)
    repeat_half_life: int = HALF_LIVES_DAYS.index(60.0)
    profile_half_life: int = HALF_LIVES_DAYS.index(150.0)
    understands: bool = False
    acts_on_observed: bool = False
    encoder: str = "embedded"

    def with_cut(self, cut_time: int) -> "Recipe":
        """The same recipe, judged on what comes after another instant (microseconds UTC)."""
        return replace(self, data=replace(self.data, cut_time=cut_time))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, as it is logged and written into the bundle."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    """Tuples as lists: what JSON and protobuf can hold."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _instant(year: int, month: int, day: int) -> int:
    seconds = datetime(year, month, day, tzinfo=UTC).timestamp()
    return int(seconds) * (MICROSECONDS_PER_DAY // 86_400)


def shop() -> Recipe:
    """The default for a shop's own data."""
    return Recipe("shop", data=DataConfig(min_users_per_item=2))


def quick() -> Recipe:
    """A first try of a shop's own data in a fraction of the time, for a little of the quality."""
    return Recipe(
        "quick",
        data=DataConfig(min_users_per_item=2),
        als=AlsConfig(num_factors=32, num_iterations=4),
        linear=LinearConfig(max_items=4_000),
        ranker=RankerConfig(num_cuts=1, max_users_per_cut=1_500, num_trees=40, num_epochs=3),
    )


def completejourney() -> Recipe:
    """The demo shop, judged on December 2017 after training on what came before.

    One cut for the ranker keeps the demo quick; more gained nothing on November.
    """
    return Recipe(
        "completejourney",
        data=DataConfig(
            min_users_per_item=5,
            exclude_departments=("FUEL", "MISCELLANEOUS"),
            cut_time=_instant(2017, 12, 1),
        ),
        ranker=RankerConfig(num_cuts=1, num_trees=150, num_epochs=8),
        understands=True,
    )


RECIPES: Final[dict[str, Callable[[], Recipe]]] = {
    recipe.__name__: recipe for recipe in (shop, quick, completejourney)
}

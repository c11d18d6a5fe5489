"""Whether the two-tower as a source pays: the served engine with it and without, on one shop.

PATH holds canonical tables, as for `completejourney`, with its periods and recipe. The ranker of
the engine that has it hears its score and rank, and is trained with them.
"""

from collections.abc import Iterator
from dataclasses import replace

from offline.benchmark.completejourney import judged, periods
from offline.benchmark.report import Line, difference
from offline.benchmark.setting import Setting
from offline.recipe import Recipe, completejourney


def run(setting: Setting) -> Iterator[str]:
    """Both engines, and the difference by user."""
    recipe, end_time = periods(completejourney(), setting)
    without = _line("without", setting, recipe, end_time)
    yield without.to_json()
    asked = replace(recipe, two_tower=replace(recipe.two_tower, is_served=True))
    served = _line("with_two_tower", setting, asked, end_time)
    yield served.to_json()
    yield difference("two_tower_gain", served, without)


def _line(name: str, setting: Setting, recipe: Recipe, end_time: int) -> Line:
    with judged(setting, recipe, end_time) as found:
        return Line(name, found.replayed().values, found.train_s)

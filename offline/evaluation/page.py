"""The page of a training run: one HTML file that needs nothing else, for who runs the shop.

It says in words and pictures what `Evaluation` holds. It computes nothing and knows no bundle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from feature_store.durable import replace_file
from offline.evaluation.evaluating import AISLE, Compared, Evaluation
from offline.evaluation.plots import plots
from offline.evaluation.probabilities import MAX_ECE
from offline.gate import Verdict
from offline.metrics import Interval

TEMPLATE: Final = "page.html"

TITLES: Final = {
    "recall": ("recall@20", "share of what could be found in 20 places that was found"),
    "ndcg": ("NDCG@20", "the same, where the first places count more"),
    "map": ("MAP@20", "how clean the places above each hit are"),
    "mrr": ("MRR@20", "1 / place of the first hit"),
    "hit_rate": ("hit rate@20", "share of users with at least one hit"),
    "coverage": ("coverage", "share of the catalogue that is in somebody's slate"),
    "novelty_bits": ("novelty, bits", "how surprising the products are: higher is less known"),
    "diversity": ("diversity", "1 - mean likeness of a slate's products, by who buys them"),
    "category_diversity": ("category diversity", "share of a slate's pairs of unlike category"),
    "popularity_bias": ("popularity bias", "popularity shown / popularity bought; 1 is no bias"),
}
WHAT: Final = {"all": "all purchases", "new": "slates of never bought products"}


@dataclass(frozen=True, slots=True)
class Run:
    """What a page is about: the recipe's name, the bundle, the cut and end of the judged period.

    Instants are microseconds UTC; `step_times_s` are the steps of the training, `uplift` says what
    became of that of coupons.
    """

    recipe: str
    bundle_id: str
    cut_time: int
    end_time: int
    step_times_s: Mapping[str, float]
    uplift: str = ""


def write_page(path: Path, run: Run, evaluation: Evaluation, verdict: Verdict) -> Path:
    """Write the page and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, render_page(run, evaluation, verdict).encode())
    return path


def render_page(run: Run, evaluation: Evaluation, verdict: Verdict) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "lead": lead,
        "share": lambda value: f"{100 * value:.1f}%",
        "day": lambda time: f"{datetime.fromtimestamp(time / 1e6, UTC):%Y-%m-%d}",
    }
    pictures = plots(evaluation, run.step_times_s)
    return environment.get_template(TEMPLATE).render(
        run=run,
        evaluation=evaluation,
        verdict=verdict,
        pictures={name: Markup(text) for name, text in pictures.items()},  # noqa: S704 - our own
        rankers=list(next(iter(evaluation.measures.values()))),
        rows=[(*_words(name), row) for name, row in evaluation.measures.items()],
        aisle=AISLE,
        max_ece=MAX_ECE,
    )


def figure(value: Interval) -> str:
    """A value with its interval."""
    if not isfinite(value.mean):
        return "–"
    text = _short(value.mean)
    return (
        text if not isfinite(value.low) else f"{text} [{_short(value.low)}, {_short(value.high)}]"
    )


def lead(compared: Compared) -> str:
    """What aisle has more, and whether that is sure."""
    found = compared.lead
    if found is None or not isfinite(found.mean):
        return ""
    word = "more" if found.low > 0 else "less" if found.high < 0 else "open"
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] {word}"


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


def _words(name: str) -> tuple[str, str]:
    """A measure's title and what it says."""
    stem, _, kind = name.partition("_at_20_")
    title, about = TITLES[stem]
    return (f"{title}, {WHAT[kind]}" if kind else title), about

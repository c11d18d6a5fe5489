"""The pictures of a run's page, as SVG that stands in the page itself.

Letters stay letters, so that a page is small and can be searched. It draws findings and computes
none.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from offline.evaluation.evaluating import AISLE, Compared, Evaluation, Floats, Part
from offline.evaluation.probabilities import Curve

COLOURS: Final = {
    AISLE: "#2563a8",
    "champion": "#7a5195",
    "own, half-life": "#d98e32",
    "own frequency": "#e8c07a",
    "popularity": "#9aa5b1",
    "what was bought": "#3c8d5a",
}
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plots(evaluation: Evaluation, step_times_s: Mapping[str, float]) -> dict[str, str]:
    """Each picture by its name, as an `svg` element."""
    found = {
        "accuracy": _accuracy(evaluation),
        "segments": _segments(evaluation),
        "popularity": _popularity(evaluation),
        "steps": _times(step_times_s, "seconds"),
        "stages": _times(
            {name: 1000 * taken for name, taken in evaluation.stage_times_s.items()},
            "milliseconds, 19 of 20 requests below",
        ),
    }
    if evaluation.probabilities is not None:
        found["calibration"] = _calibration(evaluation.probabilities.curve)
    return found


def _accuracy(evaluation: Evaluation) -> str:
    measures = {
        "recall_at_20_all": "recall@20\nall purchases",
        "ndcg_at_20_all": "NDCG@20\nall purchases",
        "recall_at_20_new": "recall@20\nnew purchases",
        "ndcg_at_20_new": "NDCG@20\nnew purchases",
    }
    groups = {title: evaluation.measures[name] for name, title in measures.items()}
    return _draw(lambda axes: _bars(axes, groups), (8.0, 3.2), "accuracy")


def _segments(evaluation: Evaluation) -> str:
    def title(part: Part) -> str:
        return f"{part.name}\n{part.num_users:,} users"

    groups = {title(part): part.recall for part in evaluation.parts if part.num_users}

    def draw(axes: Axes) -> None:
        _bars(axes, groups)
        axes.set_ylabel("recall@20")

    return _draw(draw, (1.2 * len(groups) + 1.0, 3.4), "segments")


def _bars(axes: Axes, groups: Mapping[str, Mapping[str, Compared]]) -> None:
    """One group of bars each, one bar a ranker, with its interval."""
    names = list(dict.fromkeys(name for row in groups.values() for name in row))
    names = sorted(names, key=list(COLOURS).index)
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [i for i, row in enumerate(groups.values()) if name in row]
        values = [row[name].value for row in groups.values() if name in row]
        means = np.nan_to_num(np.array([value.mean for value in values]))
        ends = np.array([(value.low, value.high) for value in values]).reshape(-1, 2).T
        lengths = np.nan_to_num(np.abs(ends - means))
        axes.bar(
            np.array(places) + (number - (len(names) - 1) / 2) * width,
            means,
            width * 0.92,
            yerr=lengths,
            color=COLOURS[name],
            label=name,
            error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
        )
    axes.set_xticks(range(len(groups)), list(groups))
    axes.tick_params(axis="x", length=0, labelsize=8.5)
    axes.legend(
        frameon=False,
        fontsize=8.5,
        ncols=len(names),
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
    )


def _calibration(curve: Curve) -> str:
    def draw(axes: Axes) -> None:
        floor = max(float(min(curve.predicted.min(), 1.0)), 1e-5)
        line = np.geomspace(floor, max(float(curve.predicted.max()), floor * 10), 20)
        axes.plot(line, line, color="#9aa5b1", linewidth=1, label="exactly as said")
        seen = curve.observed > 0
        axes.plot(
            curve.predicted[seen], curve.observed[seen], "o-", color=COLOURS[AISLE], label=AISLE
        )
        axes.set(xscale="log", yscale="log", xlabel="said", ylabel="bought")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        axes.legend(frameon=False, fontsize=8.5)

    return _draw(draw, (4.6, 3.6), "calibration")


def _popularity(evaluation: Evaluation) -> str:
    def draw(axes: Axes) -> None:
        for name, share in evaluation.popular_share.items():
            axes.plot(range(101), share, color=COLOURS[name], label=name)
        axes.set(
            xlabel="so many of the most popular products",
            ylabel="have this share of places",
            ylim=(0, 1.02),
        )
        axes.xaxis.set_major_formatter(PercentFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(frameon=False, fontsize=8.5)

    return _draw(draw, (4.6, 3.6), "popularity")


def _times(taken: Mapping[str, float], unit: str) -> str:
    def draw(axes: Axes) -> None:
        names = list(taken)[::-1]
        values: Floats = np.array([taken[name] for name in names])
        bars = axes.barh(range(len(names)), values, 0.6, color=COLOURS[AISLE])
        axes.bar_label(bars, labels=[f" {value:.3g}" for value in values], fontsize=8.5)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(unit)

    return _draw(draw, (7.0, 0.26 * max(len(taken), 2) + 0.7), unit)


def _draw(draw: Callable[[Axes], None], size: tuple[float, float], salt: str) -> str:
    with mpl.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

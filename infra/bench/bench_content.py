"""`make bench-content`: how well and how fast questions find what answers them, as JSON lines.

The content of the demo shop, the search that serves, and the weights that ship. The judging half of
the questions is by another author than the tuning half and is read here and nowhere else.

`recall_at_k`: the share of the questions with an answer whose piece is among the first k.
`answered_recall_at_k`: and for which anything was answered at all, the confidence being above the
threshold. `false_answer_rate`: the share of the questions without an answer that get one. Intervals
are 95%, by 2,000 resamplings of the questions. Times are of one question after the other on one
core: processor time, since the machine may be shared.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_store.bundle import Bundle, StringTable
from feature_store.content.columns import open_columns
from feature_store.language.encoder import embedded_encoder
from offline.adapters.shop_content import TEXTS
from offline.content.tuning import content_bundle, demo_content, read_questions
from online.catalog import Catalog
from online.content.library import Library
from online.content.search import ContentSearch, open_search

QUESTIONS: Final = TEXTS.parent / "questions"
NUM_RESAMPLINGS: Final = 2_000
NUM_SHOWN: Final = 3
TIME: Final = 1_511_913_600_000_000
"""2017-11-29: an instant of the demo shop at which its news is news."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of questions, one entry each: `rank` of the right piece, NUM_SHOWN for lower."""

    has_answer: Flags
    is_near_miss: Flags
    is_chinese: Flags
    rank: NDArray[np.int64]
    is_answered: Flags

    def of(self, which: Flags) -> "Asked":
        """Some of the questions."""
        return Asked(
            *(self.has_answer[which], self.is_near_miss[which], self.is_chinese[which]),
            *(self.rank[which], self.is_answered[which]),
        )


def search_of_the_demo_shop(folder: Path) -> ContentSearch:
    """What the demo ships, over its content alone."""
    bundle = content_bundle(folder, embedded_encoder(), demo_content())
    library = Library(open_columns(bundle), nothing_sold(bundle), np.zeros((0, 1), np.float16))
    return open_search(bundle, library, embedded_encoder())


def nothing_sold(bundle: Bundle) -> Catalog:
    """A catalogue without items."""
    empty = StringTable(np.zeros(0, np.uint8), np.zeros(0, np.int64))
    nothing = np.zeros(0)
    return Catalog(
        ids=empty,
        title=empty,
        category=empty,
        brand=empty,
        image_url=empty,
        url=empty,
        price=nothing.astype(np.float32),
        available=nothing.astype(bool),
        sorted_keys=nothing.astype(np.uint64),
        sorted_index=nothing.astype(np.int32),
    )


def ask(search: ContentSearch, rows: list[dict[str, Any]]) -> tuple[Asked, list[float]]:
    """Ask every question; what became of it and its milliseconds."""
    open_ended = replace(search, answering=replace(search.answering, threshold=0.0))
    ranks, sure, times_ms = [], [], []
    for row in rows:
        started_s = process_time()
        matches = open_ended.search(row["text"], TIME, NUM_SHOWN, (), ()).matches
        times_ms.append(1000 * (process_time() - started_s))
        right = {row["answer"], *(row.get("also") or ())}
        places = [place for place, match in enumerate(matches) if match.item in right]
        ranks.append(min(places, default=NUM_SHOWN))
        sure.append(bool(matches) and matches[0].confidence >= search.answering.threshold)
    asked = Asked(
        has_answer=np.array([row["answer"] is not None for row in rows]),
        is_near_miss=np.array([bool(row["near_miss"]) for row in rows]),
        is_chinese=np.array([row["language"] == "zh" for row in rows]),
        rank=np.array(ranks),
        is_answered=np.array(sure),
    )
    return asked, times_ms


def measures(asked: Asked) -> dict[str, Flags]:
    """What each figure is the mean of."""
    some, none = asked.has_answer, ~asked.has_answer
    first, three = asked.rank[some] < 1, asked.rank[some] < NUM_SHOWN
    return {
        "recall_at_1": first,
        "recall_at_3": three,
        "answered_recall_at_1": first & asked.is_answered[some],
        "answered_recall_at_3": three & asked.is_answered[some],
        "false_answer_rate": asked.is_answered[none],
        "false_answer_rate_near_misses": asked.is_answered[none & asked.is_near_miss],
    }


def figures(asked: Asked, seed: int = 7) -> dict[str, Any]:
    """The mean of each measure with its interval."""
    dice = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for name, flags in measures(asked).items():
        if not len(flags):
            continue
        draws = dice.integers(len(flags), size=(NUM_RESAMPLINGS, len(flags)))
        low, high = np.quantile(flags[draws].mean(axis=1), (0.025, 0.975))
        found[name] = round(float(flags.mean()), 4)
        found[f"{name}_interval"] = [round(float(low), 4), round(float(high), 4)]
    return found


def rows(half: str, folder: Path) -> Iterator[dict[str, Any]]:
    """One row for all questions of a half, and one for each language."""
    search = search_of_the_demo_shop(folder)
    questions = read_questions(QUESTIONS / f"{half}.jsonl")
    ask(search, questions[:5])  # loads the encoder
    asked, times_ms = ask(search, questions)
    parts = {
        "all": np.ones(len(questions), bool),
        "zh": asked.is_chinese,
        "en": ~asked.is_chinese,
    }
    for language, which in parts.items():
        part = asked.of(which)
        yield {
            "half": half,
            "language": language,
            "num_answerable": int(part.has_answer.sum()),
            "num_unanswerable": int((~part.has_answer).sum()),
            **figures(part),
        }
    p50, p99 = np.quantile(times_ms, (0.5, 0.99))
    yield {"half": half, "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def encoder_row() -> dict[str, Any]:
    """How many titles and phrases the encoder takes in a second of one core."""
    data = demo_content().rows
    texts = [text for row in data["phrases"].to_list() for text in row or ()]
    embedded_encoder().encode(texts[:8])
    started_s = process_time()
    embedded_encoder().encode(texts)
    return {"texts_per_s": round(len(texts) / (process_time() - started_s)), "num": len(texts)}


def main(arguments: list[str] | None = None) -> int:
    """Print a JSON line for each figure."""
    parser = argparse.ArgumentParser(prog="make bench-content", description=__doc__)
    parser.add_argument(
        "--half", choices=("judging", "tuning"), default="judging", help="default: %(default)s"
    )
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(args.half, Path(folder)):
            print(json.dumps(row), flush=True)
    print(json.dumps(encoder_row()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

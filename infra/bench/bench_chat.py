"""`make bench-chat DATA=PATH`: how well and how fast utterances are understood, as JSON lines.

The training that ships is judged twice: on public sets under DATA, which nothing here learns to
ship from, and on the repository's own judging sets, which nothing but this program reads. Times are
of one utterance after the other on one core. `--report FILE` writes the table of intents. With
`--home DIRECTORY` the judging conversations are played against the champion of that home.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import BundleWriter, open_bundle
from feature_store.language.encoder import embedded_encoder
from infra.bench.conversations import conversation_rows
from infra.bench.understanding import (
    IntentScore,
    intent_scores,
    latencies_ms,
    product_ms,
    review_accuracy,
    sentiment_accuracy,
    slot_f1,
    ten_shot_accuracy,
    whole_accuracy,
)
from offline.adapters.complete_journey import complete_journey_sources, data_folder
from offline.chat.feelings import own_sentiments, read_sentiments
from offline.chat.habits import own_scripts
from offline.chat.learn import learn
from offline.chat.names import Shelves
from offline.chat.section import shelves_of
from offline.chat.texts import LANGUAGES, TEXTS, read_utterances, read_written
from online.chat.learned import Understanding, open_understanding

JUDGING: Final = "judging.jsonl"


def understanding_of_the_demo_shop(folder: Path) -> Understanding:
    """What the demo ships: learned from the repository's texts and the demo shop's catalogue."""
    encoder = embedded_encoder()
    learned = learn(
        read_written(),
        own_sentiments(),
        own_scripts(),
        _shelves(),
        encoder,
        seed=7,
    )
    with BundleWriter(folder) as writer:
        learned.write(writer, encoder)
        bundle = writer.commit(
            horizon_time=0, seed=7, recipe={}, role=bundle_pb2.ROLE_REFIT, num_items={}
        )
    opened = open_understanding(open_bundle(bundle.directory), encoder)
    if opened is None:
        raise SystemExit("the bundle that was just written has no understanding")
    return opened


def _shelves() -> Shelves:
    (products,) = complete_journey_sources(data_folder())["products"]
    return shelves_of(products.frame.collect())


def public_rows(data: Path) -> Iterator[dict[str, Any]]:
    """The same training on public sets."""
    yield {"intent_accuracy": whole_accuracy(data)}
    yield {"intent_accuracy_ten_shot": ten_shot_accuracy(data)}
    accuracy, ms = review_accuracy(data)
    yield {"zh_sentiment_accuracy": accuracy, "ms_per_review": ms}


def own_rows(understanding: Understanding, report: Path | None) -> Iterator[dict[str, Any]]:
    """The model that ships, on the repository's judging sets."""
    utterances = read_utterances(TEXTS / "utterances" / JUDGING)
    sentiments = read_sentiments(TEXTS / "sentiments" / JUDGING)
    for language in LANGUAGES:
        of_language = [one for one in utterances if one.language == language]
        scores = intent_scores(understanding, of_language)
        _print_table(scores, language)
        if report is not None:
            _append(report, scores, language)
        yield {
            "language": language,
            "intent_macro_f1": round(sum(one.f1 for one in scores) / len(scores), 4),
            "slot_f1": slot_f1(understanding, of_language),
            f"{language}_own_sentiment_accuracy"
            if language == "zh"
            else "en_sentiment_accuracy": sentiment_accuracy(understanding, sentiments, language),
            "num_utterances": len(of_language),
        }
    p50, p99 = latencies_ms(understanding, [one.text for one in utterances])
    yield {
        "understanding_p50_ms": p50,
        "understanding_p99_ms": p99,
        "ms_of_a_product_10x1280x512": product_ms(),
    }


def _print_table(scores: Sequence[IntentScore], language: str) -> None:
    table = Table(title=f"Intents, {language}")
    table.add_column("intent")
    for name in ("precision", "recall", "F1", "utterances"):
        table.add_column(name, justify="right")
    for one in scores:
        figures = (f"{value:.3f}" for value in (one.precision, one.recall, one.f1))
        table.add_row(one.intent, *figures, str(one.num_utterances))
    Console(stderr=True).print(table)


def _append(report: Path, scores: Sequence[IntentScore], language: str) -> None:
    with report.open("a") as file:
        for one in scores:
            file.write(json.dumps({"language": language, **one.columns()}) + "\n")


def main() -> int:
    """Learn, judge and print a line for each group of figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the public sets; without it, none")
    parser.add_argument(
        "--home", type=Path, help="home of a trained shop to converse with; without it, nobody does"
    )
    parser.add_argument("--report", type=Path, help="file for accuracy of each intent, JSON lines")
    args = parser.parse_args()
    if args.report is not None:
        args.report.unlink(missing_ok=True)
    if args.data is not None:
        for row in public_rows(args.data):
            print(json.dumps(row), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        understanding = understanding_of_the_demo_shop(Path(folder))
        for row in own_rows(understanding, args.report):
            print(json.dumps(row), flush=True)
    if args.home is not None:
        for row in conversation_rows(args.home):
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

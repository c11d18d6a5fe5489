"""How questions are answered: models fitted on questions with known answers.

Pairs of the right piece and the nearest wrong ones fit the order, the first piece of every question
the confidence. What is printed is measured across folds: each question by models that have not seen
it.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import Bundle, BundleWriter
from feature_store.content.questions import (
    CONFIDENCE_FEATURES,
    FEATURES,
    Answering,
    Compared,
    Questions,
    confidence_features,
    open_questions,
)
from feature_store.durable import replace_file
from feature_store.errors import FeatureStoreError
from feature_store.language.encoder import TextEncoder, embedded_encoder
from feature_store.language.postings import Weights
from feature_store.schema import CONTENT, PRODUCTS
from offline.adapters.shop_content import TEXTS, shop_content
from offline.content.dataset import ANSWERING_FILE, ContentData, read_content
from offline.content.encoding import CACHE_FILE, CachedEncoder
from offline.content.section import read_outside, write_content
from offline.home import Home
from offline.ingest.mapping import ShopMapping
from offline.ingest.rules import judge
from offline.ingest.tables import polars_schema
from offline.progress import Progress

NUM_FOLDS: Final = 6
NUM_CUTS: Final = 5
NUM_WRONG: Final = 20
"""Wrong pieces that the right one is compared with."""

ORDER_C: Final = 0.003
CONFIDENCE_C: Final = 0.3
MAX_FALSE_ANSWERS: Final = 0.08
"""The share of questions without an answer that may get one, with some room below a tenth."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question against all pieces, and which of them are right."""

    compared: Compared
    right: frozenset[int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one question: the rank of the right piece, 0 is best, -1 for none, and the confidence."""

    rank: int
    confidence: float


def read_questions(path: Path) -> list[dict[str, Any]]:
    """The questions of a file, see `offline/texts/README.md`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def ask_all(questions: Questions, encoder: TextEncoder, rows: list[dict[str, Any]]) -> list[Asked]:
    """All questions against the content. Raises KeyError for an answer that no piece is."""
    vectors = encoder.encode([row["text"] for row in rows])
    number = {piece: place for place, piece in enumerate(questions.columns.id.tolist())}
    asked = []
    for row, vector in zip(rows, vectors, strict=True):
        compared = questions.compare(row["text"], vector)
        names = [row["answer"], *(row.get("also") or ())] if row["answer"] else []
        asked.append(Asked(compared, frozenset(number[name] for name in names)))
    return asked


def fit(asked: list[Asked]) -> Answering:
    """Both models; the threshold is that of `choose_threshold`, set afterwards."""
    order = _fit_order(asked)
    rows, truth = [], []
    for one in asked:
        scores = one.compared.features @ order
        rows.append(confidence_features(one.compared, scores))
        truth.append(int(scores.argmax()) in one.right)
    values = np.array(rows, np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-9
    model = LogisticRegression(C=CONFIDENCE_C, max_iter=3000)
    model.fit((values - mean) / scale, truth)
    slopes = model.coef_[0] / scale
    bias = float(model.intercept_[0] - (slopes * mean).sum())
    return Answering(order, slopes.astype(np.float32), bias, threshold=0.0)


def _fit_order(asked: list[Asked]) -> Weights:
    """Weights with which right pieces come before wrong ones: logistic over differences."""
    scale = np.concatenate([one.compared.features for one in asked]).std(axis=0) + 1e-9
    pairs = []
    for one in asked:
        features = one.compared.features
        nearest = np.argsort(-(features / scale).sum(axis=1), kind="stable")
        wrong = [place for place in nearest.tolist() if place not in one.right][:NUM_WRONG]
        pairs += [features[right] - features[wrong] for right in sorted(one.right)]
    differences = np.concatenate(pairs) / scale
    values = np.concatenate([differences, -differences])
    truth = np.repeat([1, 0], len(differences))
    model = LogisticRegression(C=ORDER_C, fit_intercept=False, max_iter=3000).fit(values, truth)
    return np.asarray(model.coef_[0] / scale, np.float32)


def outcome(answering: Answering, one: Asked) -> Outcome:
    """What becomes of a question."""
    scores = answering.scores(one.compared.features)
    confidence = answering.confidence(one.compared, scores)
    ranks = [int((scores > scores[right]).sum()) for right in one.right]
    return Outcome(min(ranks, default=-1), confidence)


def across_folds(asked: list[Asked]) -> list[Outcome]:
    """Every question by models that were fitted without it, once for each way to cut the folds."""
    return [one for seed in range(NUM_CUTS) for one in _across_folds(asked, seed)]


def _across_folds(asked: list[Asked], seed: int) -> list[Outcome]:
    outcomes: list[Outcome | None] = [None] * len(asked)
    folds = KFold(NUM_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(np.arange(len(asked))):
        answering = fit([asked[place] for place in train.tolist()])
        for place in test.tolist():
            outcomes[place] = outcome(answering, asked[place])
    return [one for one in outcomes if one is not None]


def choose_threshold(outcomes: list[Outcome]) -> float:
    """The lowest confidence at which at most MAX_FALSE_ANSWERS of the unanswerable are answered."""
    false = np.sort([one.confidence for one in outcomes if one.rank < 0])
    place = int(np.ceil(len(false) * (1 - MAX_FALSE_ANSWERS)))
    return float(false[min(place, len(false) - 1)]) if len(false) else 0.5


def figures(outcomes: list[Outcome], threshold: float) -> dict[str, float]:
    """Recall of the order alone and as answered, and the share of false answers."""
    ranks: NDArray[np.int64] = np.array([one.rank for one in outcomes])
    sure = np.array([one.confidence >= threshold for one in outcomes])
    has_answer = ranks >= 0
    found = {size: (ranks < size)[has_answer] for size in (1, 3)}
    return {
        "recall_at_1": float(found[1].mean()),
        "recall_at_3": float(found[3].mean()),
        "answered_recall_at_1": float((found[1] & sure[has_answer]).mean()),
        "answered_recall_at_3": float((found[3] & sure[has_answer]).mean()),
        "false_answer_rate": float(sure[~has_answer].mean()),
    }


def to_json(answering: Answering, space: str) -> dict[str, Any]:
    """As `Answering.read` has it."""
    return {
        "space": space,
        "order": dict(zip(FEATURES, answering.order.tolist(), strict=True)),
        "confidence": dict(zip(CONFIDENCE_FEATURES, answering.weights.tolist(), strict=True)),
        "bias": answering.bias,
        "threshold": answering.threshold,
    }


def demo_content() -> ContentData:
    """The demo shop's content as ingestion stores it."""
    rows = shop_content().frame.collect()
    missing = [name for name in CONTENT.names if name not in rows.columns]
    given = rows.with_columns(*(pl.lit(None, pl.String).alias(name) for name in missing))
    judged = judge(CONTENT, ShopMapping(), given.with_row_index("row_number"))
    return ContentData(judged.accepted.sort("item", "language"))


def content_bundle(folder: Path, encoder: TextEncoder, data: ContentData) -> Bundle:
    """A bundle of content alone, for whoever looks at nothing else."""
    items = pl.DataFrame(schema=polars_schema(PRODUCTS))
    with BundleWriter(folder) as writer:
        nothing = np.zeros(0, np.int32)
        write_content(writer, data, items, nothing, encoder)
        return writer.commit(
            horizon_time=0, seed=0, recipe={}, role=bundle_pb2.ROLE_REFIT, num_items={}
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline answering`."""
    parser.add_argument(
        "--questions",
        type=Path,
        nargs="+",
        default=[TEXTS.parent / "questions" / name for name in ("tuning.jsonl", "more.jsonl")],
        help="JSONL of language, text and answer: the id of a piece, or null where none answers, "
        "as should be so of a third or more (default: the demo shop's)",
    )
    parser.add_argument(
        "--outside",
        type=Path,
        help="JSONL of further texts that no piece answers, not among the questions "
        "(default: those of the demo shop)",
    )
    parser.add_argument(
        "--out", type=Path, help=f"default: {ANSWERING_FILE} in the home, where train finds it"
    )
    Home.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Fit, print what holds across folds, and write the file that `train` puts into bundles.

    The content is the installation's; where it has none, the demo shop's.
    """
    home = Home.from_arguments(args)
    data = replace(read_content(home.tables), answering=None)
    encoder = CachedEncoder(embedded_encoder(), home.path / CACHE_FILE, Progress())
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = [row for path in args.questions for row in read_questions(path)]
            if args.outside is not None:
                data = replace(data, answering={"outside": read_outside(args.outside)})
            bundle = content_bundle(Path(folder), encoder, data if len(data) else demo_content())
            asked = ask_all(open_questions(bundle), encoder, rows)
    except KeyError as error:
        message = f"a question lacks a field, or its answer is no piece: {error}"
        raise FeatureStoreError(message) from None
    except (OSError, json.JSONDecodeError) as error:
        raise FeatureStoreError(f"cannot read the questions: {error}") from None
    finally:
        encoder.close()
    outcomes = across_folds(asked)
    threshold = choose_threshold(outcomes)
    fitted = fit(asked)
    answering = Answering(fitted.order, fitted.weights, fitted.bias, threshold)
    values = to_json(answering, encoder.space) | dict(data.answering or {})
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    replace_file(args.out or home.path / ANSWERING_FILE, text.encode())
    print(json.dumps({name: round(each, 4) for name, each in figures(outcomes, threshold).items()}))
    return 0

"""What is learned of content: links, passages, the metric, answering, encodings, and ingestion."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from feature_store.content.questions import FEATURES, Answering, Compared
from feature_store.errors import EncoderError
from feature_store.language.encoder import Vectors
from offline.content.dataset import ContentData, load_content
from offline.content.encoding import CachedEncoder, SentenceTransformersEncoder
from offline.content.links import STRENGTHS, _matches
from offline.content.section import learn_metric, paragraphs
from offline.content.tuning import Asked, across_folds, choose_threshold, figures
from offline.errors import QuarantineLimitError, SourceError
from offline.ingest.files import find_sources
from offline.ingest.job import IngestJob, Limits, ingest
from offline.ingest.mapping import CsvFormat

PATHS = ["GROCERY > MILK > WHOLE", "GROCERY > SOUP", "MEAT > LAMB > CHOPS", "MEAT > SOUP > BONES"]
DAY = 86_400_000_000


def test_links_mean_paths_with_all_below_and_names_of_a_level() -> None:
    department, category, below = STRENGTHS
    assert _matches("GROCERY", PATHS) == [(PATHS[0], department), (PATHS[1], department)]
    assert _matches("GROCERY > MILK", PATHS) == [(PATHS[0], category)]
    assert _matches("GROCERY > MILK > WHOLE", PATHS) == [(PATHS[0], below)]
    assert _matches("SOUP", PATHS) == [(PATHS[1], category), (PATHS[3], category)]
    assert _matches("GROCERY > LAMB", PATHS) == []


def test_paragraphs_are_parted_by_empty_lines() -> None:
    body = "One.\nStill one.\n\nTwo.\n \n\nThree."
    assert [body[a:b] for a, b in paragraphs(body)] == ["One.\nStill one.", "Two.", "Three."]
    assert paragraphs("Alone.") == [(0, 6)]
    assert paragraphs("") == []


def test_the_metric_finds_pieces_where_plain_vectors_do_not() -> None:
    """Where all wordings of a piece differ along the same noisy axes, the metric ignores these."""
    dice = np.random.default_rng(2)
    noise = dice.normal(size=(6, 40)) * 3
    means = dice.normal(size=(30, 40))
    owner = np.repeat(np.arange(30), 10)

    def wordings() -> Vectors:
        drawn = means[owner] + dice.normal(size=(300, 6)) @ noise
        return drawn.astype(np.float32)

    heads, asked = wordings(), wordings()
    centre, metric = learn_metric(heads, owner)

    def hits(kept: NDArray[np.floating], new: NDArray[np.floating]) -> float:
        kept = kept / np.linalg.norm(kept, axis=1, keepdims=True)
        new = new / np.linalg.norm(new, axis=1, keepdims=True)
        return float((owner[(new @ kept.T).argmax(axis=1)] == owner).mean())

    plain, learned = hits(heads, asked), hits((heads - centre) @ metric, (asked - centre) @ metric)
    assert learned > 2 * plain
    assert learned > 0.6


def test_few_heads_teach_nothing() -> None:
    centre, metric = learn_metric(np.ones((5, 8), np.float32), np.arange(5))
    assert not centre.any()
    assert (metric == np.eye(8)).all()


def asked_of(num: int, seed: int) -> list[Asked]:
    """Questions whose right piece has higher features; a third of them has none."""
    dice = np.random.default_rng(seed)
    found = []
    for number in range(num):
        features = dice.random((30, len(FEATURES))).astype(np.float32) * 0.5
        right = frozenset({int(dice.integers(30))}) if number % 3 else frozenset()
        for piece in right:
            features[piece] += 0.4
        found.append(Asked(Compared(features, 1.0, 4.0), right))
    return found


def test_answering_learns_which_piece_and_whether() -> None:
    outcomes = across_folds(asked_of(150, seed=1))
    threshold = choose_threshold(outcomes)
    found = figures(outcomes, threshold)
    assert found["recall_at_1"] > 0.95
    assert found["answered_recall_at_1"] > 0.85
    assert found["false_answer_rate"] <= 0.1


def test_questions_about_nothing_teach_no_confidence() -> None:
    """Features that know nothing of the right piece: hardly anything may be answered."""
    dice = np.random.default_rng(3)
    blind = [
        Asked(Compared(dice.random((30, len(FEATURES))).astype(np.float32), 1.0, 4.0), one.right)
        for one in asked_of(150, seed=3)
    ]
    outcomes = across_folds(blind)
    found = figures(outcomes, choose_threshold(outcomes))
    assert found["recall_at_1"] < 0.15
    assert found["answered_recall_at_1"] < 0.1


def test_the_weights_that_ship_can_be_read() -> None:
    from offline.content.section import ANSWERING

    answering = Answering.read(json.loads(ANSWERING.read_text()))
    assert 0 < answering.threshold < 1


class CountingEncoder:
    """Encodes the length of a text, and counts."""

    space = "lengths"
    dimension = 2
    num_encoded = 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.num_encoded += len(texts)
        return np.array([[len(text), 1] for text in texts], np.float32)


def test_a_text_is_encoded_once_also_by_the_next_run(tmp_path: Path) -> None:
    counting = CountingEncoder()
    cached = CachedEncoder(counting, tmp_path / "cache" / "encodings.sqlite")
    first = cached.encode(["a", "bb", "a"])
    assert first[:, 0].tolist() == [1, 2, 1]
    assert counting.num_encoded == 2
    cached.close()
    again = CachedEncoder(counting, tmp_path / "cache" / "encodings.sqlite")
    assert again.encode(["bb", "ccc"])[:, 0].tolist() == [2, 3]
    assert counting.num_encoded == 3
    other = CountingEncoder()
    other.space = "other"
    elsewhere = CachedEncoder(other, tmp_path / "cache" / "encodings.sqlite")
    assert elsewhere.encode(["a"]).shape == (1, 2)
    assert other.num_encoded == 1
    again.close()
    elsewhere.close()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no sentence-transformers model"):
        SentenceTransformersEncoder(tmp_path)


PIECE = {
    "item": "a",
    "language": "en",
    "kind": "help",
    "title": "Title",
    "body": "Body.",
    "categories": ["GROCERY"],
    "publish_time": "2024-01-02",
}


HORIZON_TIME = 20_000 * DAY
EVENTS = [
    {"kind": kind, "corpus": "content", "item": "a", "user": user, "event_time": day * 86_400}
    for kind, user, day in (
        *(("impression", f"user{n}", 19_990 + n) for n in range(4)),
        ("click", "user1", 19_993),
        ("like", "user1", 19_994),
        ("content_read", "user2", 19_995),
        ("dislike", "user3", 19_996),
        ("click", "user4", 20_001),
    )
]
"""Four were shown it, two found it of use, one did not, and one click is after the horizon."""


def take_in(folder: Path, *pieces: Mapping[str, object], suffix: str = ".jsonl") -> ContentData:
    path = folder / f"content{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(piece) for piece in pieces))
    else:
        frame = pl.DataFrame([{**piece, "categories": "GROCERY"} for piece in pieces])
        frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    events = folder / "events.jsonl"
    events.write_text("\n".join(json.dumps(event) for event in EVENTS))
    sources = {
        "content": find_sources(str(path), CsvFormat()),
        "events": find_sources(str(events), CsvFormat()),
    }
    ingest(IngestJob(sources, folder / "tables", limits=Limits(max_quarantined=0.0)), None)
    return load_content(folder / "tables", HORIZON_TIME)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_content_comes_in_any_format_and_is_replaced_by_key(tmp_path: Path, suffix: str) -> None:
    take_in(tmp_path, PIECE, {**PIECE, "language": "zh", "title": "标题"}, suffix=suffix)
    data = take_in(tmp_path, {**PIECE, "title": "New"}, suffix=suffix)
    assert data.rows.select("item", "language", "title").rows() == [
        ("a", "en", "New"),
        ("a", "zh", "标题"),
    ]
    assert data.rows["categories"].to_list() == [["GROCERY"], ["GROCERY"]]
    assert data.num_pieces == 1
    assert data.counts.rows() == [("a", 4, 1)]


@pytest.mark.parametrize(
    "change", [{"title": ""}, {"publish_time": "soon"}, {"expire_time": "2023-12-31"}]
)
def test_bad_content_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(QuarantineLimitError, match="content"):
        take_in(tmp_path, {**PIECE, **change})


def test_a_file_that_is_no_json_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "content.jsonl").write_text('{"item": "a"\n{]')
    with pytest.raises(SourceError, match="one JSON object a line"):
        find_sources(str(tmp_path / "content.jsonl"), CsvFormat())

"""How a shop has its questions answered: what lies outside, and weights fitted to its own."""

import argparse
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from feature_store.content.columns import SETTINGS_FILE, open_columns
from feature_store.errors import FeatureStoreError
from feature_store.language.encoder import Vectors
from offline.adapters.shop_content import TEXTS
from offline.content import tuning
from offline.content.dataset import read_content
from offline.content.section import outside_vectors, read_outside
from offline.content.tuning import demo_content, read_questions


class _ByLetters:
    """Counts of letters as vectors: texts of the same letters are the same."""

    space = "letters"
    dimension = 26

    def encode(self, texts: Sequence[str]) -> Vectors:
        counts = [[text.count(chr(97 + letter)) for letter in range(26)] for text in texts]
        vectors: Vectors = np.array(counts, np.float32) + np.float32(0.001)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def test_what_a_shop_answers_is_not_outside(tmp_path: Path) -> None:
    path = tmp_path / "outside.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("abc", "xyz")))
    outside, encoder = read_outside(path), _ByLetters()
    everything = encoder.encode(outside)
    kept = outside_vectors(encoder.encode(["mmm"]), outside, encoder)
    assert kept.tolist() == everything.tolist()
    kept = outside_vectors(encoder.encode(["cab"]), outside, encoder)
    assert kept.tolist() == everything[1:].tolist()


def test_questions_to_tune_on_are_no_heads_and_not_outside() -> None:
    rows = [json.loads(line) for line in (TEXTS / "phrases.jsonl").read_text().splitlines()]
    known = {_plain(phrase) for row in rows for phrase in row["phrases"]}
    known |= {_plain(text) for text in read_outside()}
    for name in ("tuning", "more"):
        asked = {
            _plain(row["text"]) for row in read_questions(TEXTS.parent / f"questions/{name}.jsonl")
        }
        assert not asked & known


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()))


def test_a_shop_fits_its_own_answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its own content and questions to the bundle that `train` writes."""
    rows = demo_content().rows
    (tmp_path / "tables").mkdir()
    rows.filter(pl.col("kind") == "help").write_parquet(tmp_path / "tables" / "content.parquet")
    monkeypatch.setattr(tuning, "embedded_encoder", _ByLetters)
    pieces = rows.filter(pl.col("kind") == "help")["item"].unique().sort().to_list()
    lines = [{"text": f"where is {piece}", "answer": piece} for piece in pieces]
    lines += [{"text": f"zz {letter} qq", "answer": None} for letter in "abcdefghijklmn"]
    questions, outside = tmp_path / "questions.jsonl", tmp_path / "outside.jsonl"
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    outside.write_text(json.dumps({"text": "qqqq zzzz"}) + "\n")
    given = ["--questions", str(questions), "--outside", str(outside), "--home", str(tmp_path)]
    parser = argparse.ArgumentParser()
    tuning.add_arguments(parser)
    assert tuning.run(parser.parse_args(given)) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["recall_at_1"] <= 1
    data = read_content(tmp_path / "tables")
    assert data.answering is not None
    assert data.answering["outside"] == ["qqqq zzzz"]
    bundle = tuning.content_bundle(tmp_path / "bundle", _ByLetters(), data)
    assert open_columns(bundle).outside_vectors.shape == (1, 26)
    settings = bundle.json(SETTINGS_FILE)
    assert settings["answering"]["threshold"] == data.answering["threshold"]
    questions.write_text(json.dumps({"text": "where", "answer": "no-such-piece"}) + "\n")
    with pytest.raises(FeatureStoreError, match="no-such-piece"):
        tuning.run(parser.parse_args(given))

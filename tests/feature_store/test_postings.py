"""Full text over arrays: BM25 as tantivy has it, cosines as the naive way has them."""

from collections import Counter
from math import log, sqrt

import numpy as np
import pytest
import tantivy

from feature_store.language.cutting import search_grams, search_words
from feature_store.language.postings import bm25_postings, cosine_postings, unit_weights

WORDS = ("milk", "bread", "rice", "soup", "refund", "coupon", "oven", "fish", "salt", "pie")


def texts_of(num: int) -> list[list[str]]:
    dice = np.random.default_rng(4)
    return [dice.choice(WORDS, int(dice.integers(3, 30))).tolist() for _ in range(num)]


def test_bm25_ranks_as_tantivy_does() -> None:
    texts = texts_of(60)
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("body", stored=False, tokenizer_name="whitespace")
    schema.add_unsigned_field("number", stored=True)
    index = tantivy.Index(schema.build())
    writer = index.writer(15_000_000, 1)
    for number, text in enumerate(texts):
        writer.add_document(tantivy.Document(body=[" ".join(text)], number=number))
    writer.commit()
    index.reload()
    searcher = index.searcher()
    postings = bm25_postings(texts)
    for asked in (["milk"], ["refund", "coupon"], ["pie", "salt", "oven"]):
        found = searcher.search(index.parse_query(" ".join(asked), ["body"]), 60).hits
        theirs = {searcher.doc(place)["number"][0]: score for score, place in found}
        places = postings.find(asked)
        ours = postings.sums(places, postings.idf[places])
        assert set(theirs) == set(np.flatnonzero(ours).tolist())
        # tantivy keeps the length of a text in one byte, so a few percent are its rounding.
        for number, score in theirs.items():
            assert ours[number] == pytest.approx(score, rel=0.06)


def test_cosines_agree_with_the_naive_way() -> None:
    texts = texts_of(20)
    postings = cosine_postings(texts)
    asked = ["milk", "milk", "soup", "unheard"]
    ours = postings.sums(*unit_weights(postings, asked))
    holding = {word: sum(word in text for text in texts) for word in (*WORDS, "unheard")}
    idf = {word: log((len(texts) + 1) / (num + 0.5)) for word, num in holding.items()}

    def vector(text: list[str]) -> dict[str, float]:
        return {word: (1 + log(num)) * idf[word] for word, num in Counter(text).items()}

    def length(weights: dict[str, float]) -> float:
        return sqrt(sum(weight**2 for weight in weights.values()))

    question = vector(asked)
    for number, text in enumerate(texts):
        weights = vector(text)
        dot = sum(weight * weights.get(word, 0.0) for word, weight in question.items())
        naive = dot / (length(question) * length(weights))
        assert ours[number] == pytest.approx(naive, abs=1e-5)


def test_no_texts_and_no_terms_are_no_error() -> None:
    for build in (bm25_postings, cosine_postings):
        empty = build([])
        assert empty.find(["milk"]).tolist() == [-1]
        assert empty.sums(*unit_weights(empty, ["milk"])).shape == (0,)
    some = bm25_postings([["milk"], []])
    assert some.sums(some.find([]), np.zeros(0, np.float32)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("How do I store Strawberries?", ["stor", "strawberry"]),
        ("退貨政策", ["退货", "政策"]),
        ("ＡＢＣ牛奶", ["abc", "牛奶"]),
        ("boiling eggs, boiled egg", ["boil", "egg", "boil", "egg"]),
        ("怎么办？", []),
        ("", []),
    ],
)
def test_words_are_cut_simplified_and_stemmed(text: str, words: list[str]) -> None:
    assert search_words(text) == words


def test_a_slip_leaves_most_grams_whole() -> None:
    right, slip = set(search_grams("password")), set(search_grams("pasword"))
    assert len(right & slip) / len(right | slip) > 0.3
    assert set(search_grams("退貨")) == set(search_grams("退货"))

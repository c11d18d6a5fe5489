"""Reading texts: normal form and spans, names with slips, the best labels, linear models."""

from itertools import pairwise, product

import numpy as np
import pytest
from opencc import OpenCC

from feature_store.language.dialects import TABLE
from feature_store.language.gazetteer import Gazetteer, keys_of
from feature_store.language.grams import Grams, character_grams, word_grams
from feature_store.language.labels import SlotKind
from feature_store.language.linear import LinearModel
from feature_store.language.normal import language_of, normalise, tokens_of
from feature_store.language.reading import Reader
from feature_store.language.spelling import Speller
from feature_store.language.tagging import LABELS, allowed_pairs, best_labels, labels_of, spans_of


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("２０块以下", "20块以下"),
        ("繁體中文 鷄蛋", "繁体中文 鸡蛋"),
        ("Ｈello\x00\u200b  WORLD’s", "hello world’s"),
        ("  \t\n ", ""),
        ("a\ud800b", "ab"),
        ("唔該，有冇平啲嘅洗頭水？", "请,有没有便宜点的洗发水?"),
        ("牛油果同牛油", "牛油果同黄油"),
        ("20蚊，唔要蚊子", "20块,不要蚊子"),
    ],
)
def test_one_spelling(text: str, normal: str) -> None:
    assert normalise(text).text == normal


def test_a_place_in_the_normal_form_is_a_place_in_the_text() -> None:
    text = "我要\u200b２０塊的 ½ 鷄蛋"
    normal = normalise(text)
    words = [text[slice(*normal.span(one.start, one.end))] for one in tokens_of(normal.text)]
    assert words == ["我", "要", "２０", "塊", "的", "½", "½", "½", "鷄", "蛋"]


def test_a_word_of_another_region_keeps_its_place() -> None:
    text = "有士多啤梨味優格冇"
    normal = normalise(text)
    places = {word: normal.text.index(word) for word in ("草莓", "酸奶", "没有")}
    spans = {word: normal.span(at, at + len(word)) for word, at in places.items()}
    said = {word: text[slice(*span)] for word, span in spans.items()}
    assert said == {"草莓": "士多啤梨", "酸奶": "優格", "没有": "冇"}


def test_rows_of_dialects_are_in_normal_form() -> None:
    rows = [line.split("\t") for line in TABLE.read_text().splitlines()]
    converter = OpenCC("t2s")
    assert all(len(row) == 2 and row[0] for row in rows)
    assert len({said for said, _ in rows}) == len(rows)
    for said, _ in rows:
        assert "".join(map(converter.convert, said)) == said.lower()


@pytest.mark.parametrize(
    ("text", "locale", "language"),
    [("有yogurt吗", "en", "zh"), ("any 酸 yogurt here", "zh", "en"), ("123", "zh-CN", "zh")],
)
def test_language(text: str, locale: str, language: str) -> None:
    assert language_of(text, locale) == language


def test_grams_are_as_many_as_there_are_places() -> None:
    assert [len(one) for one in character_grams("abcd", 1, 3)] == [6, 5, 4]  # with two borders
    assert [len(one) for one in word_grams(["a", "b", "c"], 1, 2)] == [3, 4]
    once = Grams((2, 3), (1, 1)).of("ab ab", ["ab", "ab"])
    assert (np.diff(once.astype(np.int64)) > 0).all()


def test_slips_are_set_right() -> None:
    speller = Speller(["yogurt", "detergent", "milk"])
    assert [speller.correct(word) for word in ("yogrut", "detergant", "mlik", "silk", "yes")] == [
        "yogurt",
        "detergent",
        "milk",
        "silk",
        "yes",
    ]


def test_names_are_found_also_with_one_chinese_character_wrong() -> None:
    names = Gazetteer([(SlotKind.CATEGORY, "洗衣液", 0), (SlotKind.CATEGORY, "ice cream", 1)])
    read = Reader(()).read("洗衣夜 and ice creams")
    found = [(one.payload, one.exact) for one in names.matches(read.keys)]
    assert found == [(0, False), (1, True)]
    assert names.lookup(keys_of("洗衣液"), SlotKind.BRAND) is None


def test_the_best_labels_are_those_that_trying_all_finds() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, len(LABELS))).astype(np.float32)
    pairs = rng.normal(size=(len(LABELS) + 1, len(LABELS))).astype(np.float32) + allowed_pairs()
    worth = {
        labels: sum(float(row[label]) for row, label in zip(scores, labels, strict=True))
        + float(pairs[-1, labels[0]])
        + sum(float(pairs[a, b]) for a, b in pairwise(labels))
        for labels in product(range(len(LABELS)), repeat=3)
    }
    assert tuple(best_labels(scores, pairs)) == max(worth, key=lambda one: worth[one])


def test_labels_and_spans_say_the_same() -> None:
    spans = [(0, 2, SlotKind.TAG), (2, 3, SlotKind.TAG), (4, 5, SlotKind.BRAND)]
    assert spans_of(labels_of(spans, 6)) == spans


def test_a_linear_model_adds_up_the_columns_it_knows() -> None:
    model = LinearModel(
        np.array([3, 7, 9], np.uint32),
        np.array([[1, 0], [0, 2], [4, 4]], np.float32),
        np.array([[0.5, 0]], np.float32),
        np.array([0, 1], np.float32),
    )
    logits = model.logits(np.array([3, 5, 7], np.uint32), np.array([2], np.float32))
    assert logits == pytest.approx([1 / np.sqrt(2) + 1, 2 / np.sqrt(2) + 1])
    assert model.probabilities(np.zeros(0, np.uint32)).sum() == pytest.approx(1)

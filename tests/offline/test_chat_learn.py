"""Learning to understand: known answers, marks, and what is learned equals what is served."""

import string
from pathlib import Path

import numpy as np
import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.bundle import BundleWriter
from feature_store.language.encoder import embedded_encoder
from feature_store.language.labels import Feeling, Intent, SlotKind
from offline.chat.fitting import Fitting, fit_linear
from offline.chat.learn import learn
from offline.chat.names import Shelves
from offline.chat.texts import Span, marked, read_utterances
from offline.errors import TrainingDataError
from online.chat.learned import Understanding, open_understanding
from online.chat.understanding import Meaning

SHELVES = Shelves(
    {"GROCERY > YOGURT": 5, "GROCERY > SOFT DRINKS > COLA": 3}, ["Chobani"], ["organic"]
)


@pytest.fixture(scope="module")
def understanding(tmp_path_factory: pytest.TempPathFactory) -> Understanding:
    encoder = embedded_encoder()
    learned = learn([], [], [], SHELVES, encoder, seed=0, num_drawn=2)
    with BundleWriter(tmp_path_factory.mktemp("bundles")) as writer:
        learned.write(writer, encoder)
        bundle = writer.commit(
            horizon_time=0, seed=0, recipe={}, role=bundle_pb2.ROLE_REFIT, num_items={}
        )
    opened = open_understanding(bundle, encoder)
    assert opened is not None
    return opened


def test_marks_become_spans() -> None:
    utterance = marked("en", Intent.FIND_PRODUCT, "any [organic](tag) [yogurt](category)?")
    assert utterance.text == "any organic yogurt?"
    assert utterance.slots == (Span(4, 11, SlotKind.TAG), Span(12, 18, SlotKind.CATEGORY))


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"language": "en", "intent": "sing", "text": "la"}\n')
    with pytest.raises(TrainingDataError, match="line 1"):
        read_utterances(path)


@pytest.mark.parametrize("contrast", [True, False])
def test_a_checkerboard_is_learned(contrast: bool) -> None:
    """Column 1 belongs to class 0, column 2 to class 1, column 3 to both."""
    columns = [np.array([1 + n % 2, 3], np.uint32) for n in range(40)]
    labels = np.array([n % 2 for n in range(40)])
    model = fit_linear(columns, labels, 2, Fitting(10.0, contrast=contrast))
    found = [int(model.logits(one).argmax()) for one in columns]
    assert found == labels.tolist()


def test_both_languages_are_understood(understanding: Understanding) -> None:
    english = understanding.understand("do you have organic yogurt under $4")
    chinese = understanding.understand("有没有２０塊以下的優格", "zh")
    assert (english.language, chinese.language) == ("en", "zh")
    (category,) = english.of(SlotKind.CATEGORY)
    assert isinstance(category.value, Meaning)
    assert "GROCERY > YOGURT" in category.value.paths
    assert [slot.value for slot in english.of(SlotKind.MAX_PRICE)] == [4]
    assert [slot.text for slot in chinese.of(SlotKind.MAX_PRICE)] == ["２０塊"]


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("hello", Intent.GREETING),
        ("谢谢", Intent.THANKS),
        ("转人工", Intent.HUMAN),
        ("what's new this week", Intent.NEW_ARRIVALS),
        ("有什么优惠券", Intent.DEALS),
        ("where is my order", Intent.ORDER_DELIVERY),
    ],
)
def test_plain_intents(understanding: Understanding, text: str, intent: Intent) -> None:
    found = understanding.understand(text)
    assert found.intent is intent
    assert 0 < found.confidence <= 1
    assert found.alternatives[0][1] <= found.confidence


def test_same_words_another_feeling(understanding: Understanding) -> None:
    bad = understanding.understand("the yogurt was rotten, I'm furious!!")
    good = understanding.understand("the yogurt was delicious, I'm thrilled!!")
    assert (bad.feeling, good.feeling) == (Feeling.NEGATIVE, Feeling.POSITIVE)
    assert -1 <= bad.sentiment < 0 < good.sentiment <= 1


def test_nothing_breaks_it(understanding: Understanding) -> None:
    rng = np.random.default_rng(0)
    signs = [
        *string.printable,
        *"😀👍🏽\u200b\u202e\x00\ud800￥块二第鷄一个不要ñ",
        "<b>",
        "a" * 10_000,
    ]
    for _ in range(100):
        text = "".join(rng.choice(signs, rng.integers(0, 40)))
        found = understanding.understand(text)
        assert all(text[slot.start : slot.end] == slot.text for slot in found.slots)


def test_an_empty_text_is_out_of_scope(understanding: Understanding) -> None:
    assert understanding.understand("").intent is Intent.OUT_OF_SCOPE

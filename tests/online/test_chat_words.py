"""Turns of phrase: what they refuse, limit and let go, how they feel, and what may be said."""

from decimal import Decimal

import numpy as np
import pytest

from feature_store.ids import hash64_many
from feature_store.language.titles import title_key
from feature_store.schema import Corpus
from online.chat.facts import Shown, Vocabulary
from online.chat.following import lets_go
from online.chat.policy import TOPICS, Mood, asks_for_products, grave_topic, mood_of
from online.chat.stating import stated_wishes
from online.chat.truth import untruths
from online.chat.wishes import Aspect, Relation, contradicts, wish_of
from online.chat.wording import money
from tests.online.chats import Marked, unmarked


def stated(marked: str) -> set[str]:
    """The wishes of an utterance, as `category milk`, `-category milk`, `price <= 5.00`."""
    text, slots = unmarked(marked)
    signs = {Relation.IS: "", Relation.IS_NOT: "-"}
    found = set()
    for wish in stated_wishes(slots, text):
        if wish.aspect is Aspect.PRICE:
            found.add(f"{'<=' if wish.relation is Relation.AT_MOST else '>='} {wish.amount}")
        else:
            found.add(f"{signs[wish.relation]}{wish.aspect} {wish.values[0]}")
    return found


@pytest.mark.parametrize(
    ("marked", "wishes"),
    [
        ("[milk](category)", {"category milk"}),
        ("forget the [beans](category)", {"-category beans"}),
        ("[白面包](category)不要", {"-category 白面包"}),
        ("别的[鸡蛋](without)", {"category 鸡蛋"}),
        ("[10 dollars](min_price) max", {"<= 10.00"}),
        ("but not more than [12](quantity)", {"<= 12.00"}),
        ("nothing over [3](min_price) dollars", {"<= 3.00"}),
        ("[20](max_price)块以上", {">= 20.00"}),
        ("1到[4块](max_price)", {">= 1.00", "<= 4.00"}),
        (
            "[buns](category). oh wait, no, [hot dogs](category) actually",
            {"category hot dogs", "-category buns"},
        ),
        ("[牛肉](category)，等等，还是[鸡肉](category)吧", {"category 鸡肉", "-category 牛肉"}),
        ("最多[4块](max_price)吧，还是至少[2块](min_price)", {"<= 4.00", ">= 2.00"}),
        ("sick of [cereal](category). no [cereal](without)", {"-category cereal"}),
        ("not only [milk](category)", {"category milk"}),
        (
            "no [nuts](without), [dairy](category) or [soy](category)",
            {"-category nuts", "-category dairy", "-category soy"},
        ),
        ("no [nuts](without), [milk](category) please", {"-category nuts", "category milk"}),
        ("anything but [beans](category)", {"-category beans"}),
        ("[鱼](category)味儿的统统不要", {"-category 鱼"}),
        ("[大豆](category)配方嘅唔要", {"-category 大豆"}),
    ],
)
def test_words_beside_a_slot_say_how_it_is_meant(marked: str, wishes: set[str]) -> None:
    assert stated(marked) == wishes


@pytest.mark.parametrize(
    ("text", "name", "does"),
    [
        ("they don't have to be organic", "organic", True),
        ("it needn't be organic", "organic", True),
        ("peanuts are fine actually", "peanuts", True),
        ("不一定要有机", "有机", True),
        ("其实巧克力的也行", "巧克力", True),
        ("organic please", "organic", False),
        ("要有机的", "有机", False),
    ],
)
def test_a_text_may_let_go(text: str, name: str, does: bool) -> None:
    assert lets_go(text, name) is does


def test_a_refusal_contradicts_what_it_covers_and_no_more() -> None:
    marked = (
        "[chips](category) [peanuts](category), no [tortilla chips](without), no [peanut](without)"
    )
    _, slots = unmarked(marked)
    wishes = [wish_of(slot) for slot in slots]
    chips, peanuts, tortilla, peanut = (wish for wish in wishes if wish is not None)
    assert not contradicts(chips, tortilla)
    assert contradicts(peanuts, peanut)


@pytest.mark.parametrize(
    ("utterance", "mood"),
    [
        ("complaint!: you are late", Mood.ANGRY),
        ("complaint: I am FURIOUS, this is outrageous!", Mood.ANGRY),
        ("complaint: 气死我了，太过分了！", Mood.ANGRY),
        ("complaint-: it was late", Mood.UPSET),
        ("find_product-: these are all too dear", Mood.CALM),
        ("find_product: garbage bags!", Mood.CALM),
        ("find_product: 垃圾袋！", Mood.CALM),
    ],
)
def test_the_mood_of_words(utterance: str, mood: Mood) -> None:
    assert mood_of(Marked().understand(utterance), utterance) is mood


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("my daughter nearly swallowed it", "safety"),
        ("I found a piece of metal in the salad", "safety"),
        ("we all got sick after your shrimp", "safety"),
        ("孩子碰到起了一身疹子", "safety"),
        ("I am calling my lawyer", "legal"),
        ("我要去消协投诉", "legal"),
        ("you charged me twice", "payment"),
        ("我的卡被重复扣款了", "payment"),
        ("can I pay by card", ""),
        ("the milk was sour", ""),
        ("你们收不收信用卡", ""),
    ],
)
def test_the_topics_of_words(text: str, topic: str) -> None:
    assert grave_topic(Marked().understand(f"complaint: {text}"), tuple(TOPICS)) == topic


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("it was sour, can you show me a different one", True),
        ("what frozen pizza do you have", True),
        ("再给我看看别的鸡蛋", True),
        ("can i bring them back", False),
        ("碎的那盒怎么退钱", False),
    ],
)
def test_a_grievance_may_end_in_a_request(text: str, does: bool) -> None:
    assert asks_for_products(Marked().understand(f"complaint: {text}")) is does


TITLES = ("Whole Milk, 1 gal", "Corn Chips, 10 oz", "Yogurt")
VOCABULARY = Vocabulary(
    titles=np.sort(
        hash64_many([title_key(one) for one in ("Whole Milk", *TITLES[:2], "Corn Chips")])
    ),
    max_words=4,
    brands=frozenset({"Acme", "Private label 69"}),
    names={"zh": {"GROCERY > YOGURT": "酸奶", "TYPE > WHOLE": "全脂奶"}},
)
MILK = Shown("1", Corpus.PRODUCT, "Whole Milk, 1 gal", Decimal("2.50"), "Acme", "DAIRY > WHOLE")
COUPON = Shown("c", Corpus.COUPON, "20% off milk", text="For Acme milk\n5.00")
HELP = Shown("h", Corpus.CONTENT, "Delivery", text="Delivery costs $5.95, free from 35 dollars.")


@pytest.mark.parametrize(
    ("text", "cards", "is_true"),
    [
        ("“Whole Milk, 1 gal” at $2.50.", (MILK,), True),
        ("Whole milk of Acme, 2.50美元", (MILK,), True),
        ("“Whole Milk, 1 gal” at $2.40.", (MILK,), False),
        ("Corn chips go well with it.", (MILK,), False),
        ("We have “Blue Cheese”.", (MILK,), False),
        ("Private label 69 is cheaper.", (MILK,), False),
        ("It is on sale.", (MILK,), False),
        ("You save 20% with it.", (MILK, COUPON), True),
        ("You save 30% with it.", (MILK, COUPON), False),
        ("立减5元", (COUPON,), True),
        ("打八折", (COUPON,), False),
        ("Delivery costs $5.95.", (HELP,), True),
        ("Delivery costs six dollars.", (HELP,), False),
        ("I found five for you.", (), True),
    ],
)
def test_a_text_is_true_only_of_its_cards(
    text: str, cards: tuple[Shown, ...], is_true: bool
) -> None:
    assert (not untruths(text, cards, VOCABULARY)) is is_true


def test_names_of_categories() -> None:
    assert VOCABULARY.category("GROCERY > YOGURT > CUPS", "zh") == "酸奶"
    assert VOCABULARY.category("DAIRY > WHOLE", "zh") == "全脂奶"
    assert VOCABULARY.category("DAIRY > SOFT CHEESE/OTHER", "en") == "Soft cheese"


def test_money_is_written_as_people_write_it() -> None:
    assert money(Decimal("2.5"), "USD", "en") == "$2.50"
    assert money(Decimal("2.5"), "USD", "zh") == "2.50美元"
    assert money(Decimal("2.5"), "", "zh") == "2.50"
    assert money(Decimal("2.5"), "SEK", "en") == "2.50 SEK"

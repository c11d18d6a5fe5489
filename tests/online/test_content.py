"""Content beside products: what is linked comes first, what is bought is read about, questions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_store.bundle import open_bundle
from feature_store.errors import EncoderError
from feature_store.events import Event, with_event_id
from feature_store.language.encoder import Vectors, embedded_encoder
from feature_store.schema import CATEGORY_SEPARATOR, MICROSECONDS_PER_DAY, Corpus, EventKind
from online.content.shelf import ContentShelf
from online.feedback.changes import apply
from online.snapshot import open_snapshot
from online.types import ContentDetail, Quota, Request, Slate
from tests.online.libraries import HORIZON, NUM_USERS, Shelves, build_shelves, user_of

CONTENT = Corpus.CONTENT


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Shelves:
    return build_shelves(tmp_path_factory.mktemp("shelves"))


def ask(shelves: Shelves, user: int = -1, num: int = 10, **fields: object) -> Slate:
    who = b"" if user < 0 else user_of(user)
    quotas = fields.pop("corpora", (Quota(CONTENT, num),))
    request = Request(HORIZON, user=who, corpora=quotas, **fields)  # type: ignore[arg-type]
    return shelves.engine.recommend(request)


def shelf_of(shelves: Shelves) -> ContentShelf:
    shelf = shelves.engine.snapshot.shelves[CONTENT]
    assert isinstance(shelf, ContentShelf)
    return shelf


def test_on_every_departments_product_page_linked_content_comes_first(shelves: Shelves) -> None:
    items = shelves.items
    departments = items["category"].str.split(CATEGORY_SEPARATOR).list.first()
    shelf = shelf_of(shelves)
    without = []
    for department in sorted(set(departments.to_list())):
        item = items.filter(departments == department)["item"][0]
        slate = ask(shelves, placement="product_similar", context_items=(item,), num=5)
        links = shelf.library.links_of(shelves.engine.snapshot.catalog.indexes_of([item]))
        linked = [links[place.index] > 0 for place in slate.items]
        assert linked == sorted(linked, reverse=True)
        if not linked or not linked[0]:
            without.append(department)
    assert not without


def test_who_buys_from_a_category_gets_its_content_above_the_average_user(
    shelves: Shelves,
) -> None:
    shelf, num_pieces = shelf_of(shelves), len(shelf_of(shelves).library)
    ranks = np.full((NUM_USERS, num_pieces), float(num_pieces))
    for user in range(NUM_USERS):
        for rank, place in enumerate(ask(shelves, user, num_pieces).items):
            ranks[user, place.index] = rank
    gains = []
    for group in sorted(set(shelves.favourite)):
        item = shelves.items.filter(shelves.items["group"] == group)["item"].to_list()
        links = shelf.library.links_of(shelves.engine.snapshot.catalog.indexes_of(item))
        linked = links >= 1.0
        if linked.any():
            buyers = np.array([one == group for one in shelves.favourite])
            gains.append(ranks[:, linked].mean() - ranks[buyers][:, linked].mean())
    assert len(gains) > 20
    assert np.mean(gains) > 15
    assert np.mean(np.array(gains) > 0) > 0.9


def test_the_language_asked_for_comes_first_and_another_is_better_than_none(
    shelves: Shelves,
) -> None:
    for wanted, got in ((("zh", "en"), "zh"), (("fr", "en"), "en"), (("fr",), "en")):
        details = [
            place.card.detail for place in ask(shelves, languages=wanted).items if place.card
        ]
        languages = {one.language for one in details if isinstance(one, ContentDetail)}
        assert languages == {got}, wanted


def test_kinds_dates_and_what_is_excluded_hold(shelves: Shelves) -> None:
    only = ask(shelves, corpora=(Quota(CONTENT, 200, ("news",)),))
    ids = [place.item for place in only.items]
    assert ids == ["news-food-bank"]  # one is over, two are not out yet
    tips = ask(shelves, corpora=(Quota(CONTENT, 200, ("tip",)),))
    details = [place.card.detail for place in tips.items if place.card]
    assert {one.kind for one in details if isinstance(one, ContentDetail)} == {"tip"}
    ids = [place.item for place in tips.items]
    quotas = (Quota(CONTENT, 200, ("tip",)),)
    fewer = ask(shelves, corpora=quotas, exclude_items=(ids[0],))
    assert [place.item for place in fewer.items] == ids[1:]


def test_what_was_read_moves_down_and_what_was_disliked_is_gone(shelves: Shelves) -> None:
    user, store = 7, shelves.engine._store
    before = [place.item for place in ask(shelves, user, 120).items]
    for item, kind in ((before[0], EventKind.CONTENT_READ), (before[1], EventKind.DISLIKE)):
        event = Event(
            event_id="",
            event_time=HORIZON - MICROSECONDS_PER_DAY,
            user=user_of(user).hex(),
            kind=kind,
            corpus=CONTENT,
            item=item,
        )
        apply([with_event_id(event)], store)
    after = [place.item for place in ask(shelves, user, 120).items]
    assert before[1] not in after
    assert after.index(before[0]) > 10
    assert after[0] == before[2]


def test_the_last_place_explores_with_its_probability(shelves: Shelves) -> None:
    drawn = {}
    for user in range(NUM_USERS):
        plain = ask(shelves, user, 4)
        slate = ask(shelves, user, 4, explores=True)
        assert slate.items[:3] == plain.items[:3]
        last = slate.items[3]
        assert 0 < last.propensity < 1
        drawn[user] = last.item != plain.items[3].item
        assert slate == ask(shelves, user, 4, explores=True)
    assert 0.1 < np.mean(list(drawn.values())) < 0.45


def test_reasons_have_words_in_both_languages(shelves: Shelves) -> None:
    from online.explain.reasons import TEXTS

    item = shelves.items["item"][0]
    for slate in (
        ask(shelves, 3),
        ask(shelves, placement="product_similar", context_items=(item,)),
    ):
        assert all({"en", "zh"} <= TEXTS[place.reason.code].keys() for place in slate.items)


def test_questions_find_their_piece_in_both_languages(shelves: Shelves) -> None:
    search = shelves.engine.snapshot.search
    assert search is not None
    for question, piece, language in (
        ("how long do i have to send something back", "help-returns", "en"),
        ("退款要多久才能到账", "help-refunds", "zh"),
        ("可以退貨嗎 沒有小票", "help-returns", "zh"),
        ("how do i forgot my pasword reset", "help-login", "en"),
    ):
        answer = search.search(question, HORIZON, 3, (), ())
        assert answer.matches, question
        best = answer.matches[0]
        assert best.item == piece
        assert isinstance(best.card.detail, ContentDetail)
        assert best.card.detail.language == language
        body = search.library.columns.body
        assert any(best.passage in text for text in body.tolist())
        confidences = [match.confidence for match in answer.matches]
        assert confidences == sorted(confidences, reverse=True)
        assert 0 < confidences[0] <= 1


def test_one_word_of_one_proves_less_than_six_of_six(shelves: Shelves) -> None:
    search = shelves.engine.snapshot.search
    assert search is not None
    nothing = search.questions.compare("", None)
    assert (nothing.known, nothing.substance) == (0.0, 0.0)
    short = search.questions.compare("refund", None)
    long = search.questions.compare("refund card bank days money receipt", None)
    assert short.known == long.known == pytest.approx(1.0)
    assert 0 < short.substance < long.substance / 3
    same = replace(short, substance=long.substance)
    scores = search.answering.scores(short.features)
    less, more = (search.answering.confidence(one, scores) for one in (short, same))
    assert less < more


def test_what_has_no_answer_gets_none(shelves: Shelves) -> None:
    search = shelves.engine.snapshot.search
    assert search is not None
    for question in ("who won the world cup", "今天股市怎么样", "xkcd qwertz", "", "?!"):
        assert search.search(question, HORIZON, 3, (), ()).matches == ()


class AbsentEncoder:
    """The embedded encoder on a machine where its package is not installed."""

    space = embedded_encoder().space
    dimension = embedded_encoder().dimension

    def encode(self, texts: object) -> Vectors:
        raise EncoderError("not installed")


def test_without_the_encoder_words_alone_answer_and_it_is_named(shelves: Shelves) -> None:
    search = shelves.engine.snapshot.search
    assert search is not None
    for lacking in (replace(search, encoder=AbsentEncoder()), replace(search, space="another")):
        answer = lacking.search("how do i get my refund back on my card", HORIZON, 3, (), ())
        assert [one.stage for one in answer.degraded] == ["encoder"]


def test_a_bundle_with_content_opens_quickly(shelves: Shelves, tmp_path: Path) -> None:
    from time import process_time

    directory = shelves.engine.snapshot.bundle.directory
    started_s = process_time()
    opened = open_snapshot(open_bundle(directory, verify=False))
    assert opened.search is not None
    assert process_time() - started_s < 1.0

"""What makes one answer cheap changes nothing of it."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from aisle.v1 import recommendation_pb2, slate_pb2
from feature_store.ranking import MAX_RANK, _capped_ranks
from online.columns import highest
from online.explain import reasons
from online.feedback.attribution import TokenSigner
from online.feedback.identities import Identities
from online.offering.allowed import allowed_where, contains, holds
from online.service.edge import Edge, _kept, write_reason
from online.stages.vectors import top
from online.types import Reason

NUM_ITEMS = 1_003


def test_a_set_with_a_mask_holds_what_its_bits_say() -> None:
    rng = np.random.default_rng(1)
    mask = rng.random(NUM_ITEMS) < 0.7
    plain = allowed_where(mask)
    items = rng.integers(0, NUM_ITEMS, 400).astype(np.int32)
    assert (holds(replace(plain, mask=mask), items) == holds(plain, items)).all()
    assert (holds(plain, items) == mask[items]).all()


def test_what_lies_behind_the_last_is_not_contained() -> None:
    known = np.array([3, 5, 9], np.int32)
    items = np.array([9, 10, 0, 5, 4, 11], np.int32)
    assert contains(known, items).tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize("limit", [1, 7, 60, 99])
def test_the_highest_are_those_of_a_full_sort(limit: int) -> None:
    rng = np.random.default_rng(limit)
    items = rng.permutation(100).astype(np.int32)
    scores = rng.integers(0, 12, 100).astype(np.float32)  # many ties
    wanted = np.lexsort((items, -scores))[:limit]
    assert sorted(highest(items, scores, limit).tolist()) == sorted(wanted.tolist())
    found = top(items, scores, limit)
    assert found.items.tolist() == items[wanted].tolist()
    assert found.scores.tolist() == scores[wanted].tolist()


@pytest.mark.parametrize("num", [0, 1, 39, 130])
def test_ranks_are_those_of_a_stable_sort(num: int) -> None:
    rng = np.random.default_rng(num)
    scores = rng.integers(-3, 4, (3, num)).astype(np.float32) * np.float32(0.25)
    scores[0] *= -0.0  # nothing but zeros, of both signs
    owned = rng.random(num) < 0.4
    for row, ranks in zip(scores, _capped_ranks(scores, owned), strict=True):
        for kind in (owned, ~owned):
            order = np.argsort(-row[kind], kind="stable")
            wanted = np.empty(len(order), np.float32)
            wanted[order] = np.log1p(np.minimum(np.arange(len(order), dtype=np.float32), MAX_RANK))
            assert ranks[kind].tolist() == wanted.tolist()


def test_a_reason_that_is_said_again_is_a_message_of_its_own() -> None:
    reason = Reason("bought_often", {"count": "3", "days": "1"})
    first, second = slate_pb2.Reason(), slate_pb2.Reason()
    write_reason(first, reason, "en")
    assert first.text == reasons.text(reason, "en")
    assert dict(first.parameters) == reason.parameters
    first.text = "changed"
    write_reason(second, reason, "en")
    assert second.text == reasons.text(reason, "en")
    write_reason(second, reason, "zh")
    assert second.text == reasons.text(reason, "zh")


@pytest.mark.parametrize("name", [reasons.QUERY, reasons.UNMATCHED])
def test_what_somebody_searched_for_is_not_kept(name: str) -> None:
    code = "for_search" if name == reasons.QUERY else "popular"
    reason = Reason(code, {name: "gifts for tina"})
    before = _kept.cache_info()
    message = slate_pb2.Reason()
    write_reason(message, reason, "en")
    assert message.text == reasons.text(reason, "en")
    assert "gifts for tina" in message.text
    assert _kept.cache_info() == before


class NoSecrets:
    """Stands for the identities of an installation."""

    def digest(self, raw: str) -> bytes:
        return raw.encode()


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_an_empty_context_says_what_none_says(locale: str) -> None:
    edge = Edge(cast(Identities, NoSecrets()), TokenSigner(bytes(32)), locale, "")
    message = recommendation_pb2.RecommendRequest(user_id="tina", placement="home", page_size=5)
    without = edge.read(message, 7)
    message.context.SetInParent()
    assert edge.read(message, 7) == without
    assert without.locale == locale
    assert without.languages == (reasons.language(locale),)
    message.context.locale = "zh"
    assert edge.read(message, 7).languages[0] == "zh"

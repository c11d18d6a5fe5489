"""Coupons over gRPC: shown with what they save, and explained rule by rule."""

from typing import Any

import grpc

from aisle.v1 import (
    context_pb2,
    corpus_pb2,
    recommendation_pb2,
)
from feature_store.people import Consent, consent_key
from online.process.server import Parts
from tests.online.coupon_shop import (
    basket,
    broken,
    caller,
    claim,
    coupon_world,
    explain,
    pseudonym,
    served,
    show,
    usd,
    world,
)
from tests.online.serving import (
    TIMEOUT_S,
    Caller,
    degraded,
    ids,
    refused,
)

__all__ = ["caller", "coupon_world", "served", "world"]


def test_coupons_are_shown_with_what_they_save(caller: Caller) -> None:
    context = basket(("p02", 600), ("p03", 1_400))
    shown = show(caller, context=context)
    assert set(shown) == {"spring-2", "loyal-p02", "open-10", "gift-p04"}
    share = shown["open-10"]
    assert share.display.title == "Title of open-10"
    assert share.coupon.saving == usd(2)
    assert share.coupon.discount.basis_points == 1_000
    assert share.coupon.discount.maximum == usd(3)
    assert share.reason.code == "coupon_saves"
    assert share.reason.text == "Saves 2.00 on this basket"
    assert shown["loyal-p02"].coupon.saving == usd(1)
    assert shown["gift-p04"].coupon.saving == usd(2)  # p04 costs 2.00
    assert shown["spring-2"].coupon.terms == "2.00 off."
    assert all(0 < item.score < 1 for item in shown.values())


def test_the_same_in_chinese(caller: Caller) -> None:
    shown = show(caller, context=basket(("p03", 2_000), locale="zh-CN"))
    assert shown["open-10"].reason.text == "此购物车可省2.00"


def test_one_coupon_of_a_stacking_group_is_shown(caller: Caller) -> None:
    shown = show(caller, context=basket(("p03", 5_000)))
    assert len(shown.keys() & {"big-5", "gift-p04"}) == 1


def test_what_the_basket_lacks_is_said(caller: Caller) -> None:
    claim(caller, "big-5", "r1", "u00")
    shown = show(caller, context=basket(("p03", 1_500)))
    assert shown["big-5"].coupon.missing_amount == usd(25)
    assert not shown["big-5"].coupon.HasField("saving")
    assert shown["big-5"].coupon.claim_id, "what is claimed is shown"
    assert "gift-p04" not in shown, "it cannot be combined with what is held"


def test_who_is_not_in_the_audience_does_not_see_it(caller: Caller) -> None:
    assert "loyal-p02" not in show(caller, "u01")
    assert "loyal-p02" in show(caller, "u00")
    assert "loyal-p02" not in show(caller, "")


def test_products_and_coupons_share_a_slate(caller: Caller) -> None:
    quotas = [
        recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_PRODUCT, count=4),
        recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_COUPON, count=2),
    ]
    response = caller.recommend("u00", corpora=quotas)
    corpora = [item.corpus for item in response.items]
    assert corpora.count(corpus_pb2.CORPUS_COUPON) == 2
    assert corpora.count(corpus_pb2.CORPUS_PRODUCT) == 4


def test_without_being_asked_for_no_coupon_is_shown(caller: Caller) -> None:
    assert all(one.startswith("p") for one in ids(caller.recommend("u00")))


def test_every_rule_is_explained(caller: Caller) -> None:
    response = explain(caller, "big-5", user_id="u00", context=basket(("p03", 1_500)))
    assert not response.eligible
    assert broken(response) == {"minimum_basket"}
    (finding,) = (rule for rule in response.rules if not rule.met)
    assert dict(finding.parameters) == {"minimum": "40.00", "basket": "15.00"}
    assert finding.text == "It needs a basket of 40.00; this one is 15.00."
    assert len(response.rules) == 17
    assert all(rule.text and "{" not in rule.text for rule in response.rules)
    assert response.coupon.missing_amount == usd(25)
    assert explain(caller, "big-5", context=basket(("p03", 4_000))).eligible
    assert explain(caller, "nowhere").missing_ids == ["nowhere"]


def test_the_words_of_a_rule_are_in_the_language_asked_for(caller: Caller) -> None:
    context = context_pb2.Context(locale="zh")
    response = explain(caller, "late-1", user_id="u00", context=context)
    assert broken(response) == {"start_time"}
    (text,) = (rule.text for rule in response.rules if not rule.met)
    assert text.startswith("优惠将于2024-")


def test_who_allows_no_personalization_gets_what_is_for_everybody(
    served: tuple[Caller, Parts],
) -> None:
    caller, parts = served
    refusal = Consent(personalization=False).encode()
    assert refusal is not None
    parts.store.put_many([(consent_key(pseudonym("u00")), refusal)])
    shown = show(caller)
    assert "loyal-p02" not in shown
    assert "open-10" in shown


def test_without_a_ledger_no_coupon_is_shown_and_products_are(
    served: tuple[Caller, Parts],
) -> None:
    caller, parts = served
    parts.claiming.ledger.close()
    quotas = [recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_COUPON, count=2),
              recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_PRODUCT)]  # fmt: skip
    response = caller.recommend("u00", corpora=quotas, page_size=8)
    assert list(degraded(response)) == ["shelf.coupon"]
    assert len(response.items) > 0
    with refused(grpc.StatusCode.UNAVAILABLE):
        claim(caller, "spring-2", "r1")


def why(caller: Caller, item: str, **fields: Any) -> recommendation_pb2.ExplainResponse:
    """What Explain says of a coupon in a slate of five coupons."""
    quota = recommendation_pb2.CorpusQuota(corpus=corpus_pb2.CORPUS_COUPON, count=5)
    asked = {"user_id": "u00", "placement": "home", "corpora": [quota], **fields}
    request = recommendation_pb2.RecommendRequest(**asked)
    call = recommendation_pb2.ExplainRequest(item_id=item, recommend=request)
    return caller.recommendations.Explain(call, timeout=TIMEOUT_S)


def test_explain_says_of_a_coupon_whether_it_is_in_the_slate(caller: Caller) -> None:
    verdicts = recommendation_pb2.ExplainResponse
    context = basket(("p02", 600), ("p03", 1_400))
    shown = show(caller, context=context)
    for rank, (coupon, item) in enumerate(shown.items(), 1):
        response = why(caller, coupon, context=context)
        assert response.verdict == verdicts.VERDICT_SELECTED
        assert response.reason == item.reason
        assert (response.rank, response.score) == (rank, item.score)
    response = why(caller, "loyal-p02", user_id="u01")
    assert response.verdict == verdicts.VERDICT_FILTERED
    assert [one.filter for one in response.filters if not one.kept] == ["coupons.rule.audience"]
    response = why(caller, "open-10", corpora=[])
    assert [one.filter for one in response.filters if not one.kept] == ["corpora"]

"""Explain at the edge: an explanation becomes a message, its findings become words.

It knows the contract and the languages, and nothing of how an explanation comes about.
"""

from typing import Final

from aisle.v1 import recommendation_pb2
from online.explain import reasons
from online.explain.explaining import Explanation, Verdict
from online.service.edge import CAUSES, write_reason
from online.types import Reason

_VERDICTS: Final = {
    Verdict.SELECTED: recommendation_pb2.ExplainResponse.VERDICT_SELECTED,
    Verdict.OUTRANKED: recommendation_pb2.ExplainResponse.VERDICT_OUTRANKED,
    Verdict.FILTERED: recommendation_pb2.ExplainResponse.VERDICT_FILTERED,
    Verdict.NOT_RETRIEVED: recommendation_pb2.ExplainResponse.VERDICT_NOT_RETRIEVED,
    Verdict.UNKNOWN_ITEM: recommendation_pb2.ExplainResponse.VERDICT_UNKNOWN_ITEM,
}

_TEXTS: Final[dict[str, dict[str, str]]] = {
    Verdict.SELECTED: {"en": "It is in the slate.", "zh": "它在推荐列表中。"},
    Verdict.OUTRANKED: {
        "en": "It came {rank}. among the candidates; others came before it.",
        "zh": "它在候选中排第{rank}位，前面还有其他。",
    },
    Verdict.FILTERED: {
        "en": "It was removed by: {names}.",
        "zh": "它被以下条件排除：{names}。",
    },
    Verdict.NOT_RETRIEVED: {
        "en": "No source of this placement brought it.",
        "zh": "此位置的任何来源都未找到它。",
    },
    Verdict.UNKNOWN_ITEM: {
        "en": "It is not in the catalogue that is being served.",
        "zh": "当前商品目录中没有该商品。",
    },
    "availability": {"en": "whether the shop sells it now", "zh": "目前是否在售"},
    "request_filter": {"en": "the request's filter: {text}", "zh": "请求的筛选条件：{text}"},
    "request_region": {"en": "whether it is sold in {text}", "zh": "是否在{text}销售"},
    "request_corpora": {
        "en": "whether the request has places for it: {corpus}",
        "zh": "请求中是否有它的位置：{corpus}",
    },
    "request_kinds": {"en": "the kinds asked for: {kinds}", "zh": "请求的种类：{kinds}"},
    "dates": {"en": "whether it is published and not over", "zh": "是否已发布且未过期"},
    "unwanted": {"en": "what is excluded or disliked", "zh": "已排除或不喜欢的内容"},
    "coupon": {
        "en": "one of the coupon's rules, see ExplainCoupon; or it earns less than it costs, or a "
        "better one of its campaign is shown ({name})",
        "zh": "优惠券规则，详见 ExplainCoupon；或展示它不划算，或同一活动已有更好的（{name}）",
    },
    "excluded": {"en": "what the request excludes", "zh": "请求排除的商品"},
    "disliked": {"en": "what the user does not want to see", "zh": "用户不想看到的商品"},
    "looked_at": {"en": "what the page shows already", "zh": "页面正在展示的商品"},
    "in_basket": {"en": "what is in the basket", "zh": "已在购物车中的商品"},
    "seen": {"en": "what this visit has looked at", "zh": "本次访问看过的商品"},
    "shown_lately": {"en": "what was shown of late here", "zh": "近期在此展示过的商品"},
    "not_due": {
        "en": "what was bought and is not needed again yet",
        "zh": "已购买且尚不需补货的商品",
    },
    "bought_before": {"en": "only what was bought before", "zh": "仅限买过的商品"},
    "new_only": {"en": "only what was never bought", "zh": "仅限没买过的商品"},
    "rule_boost": {
        "en": "the shop multiplies its score by {factor}",
        "zh": "商店将其得分乘以{factor}",
    },
    "rule_bury": {
        "en": "the shop multiplies its score by {factor}",
        "zh": "商店将其得分乘以{factor}",
    },
    "rule_pin": {"en": "the shop has pinned it", "zh": "商店已将其置于固定位置"},
    "rule_block": {"en": "the shop does not want it shown", "zh": "商店不希望展示该商品"},
    "cap": {"en": "at most {count} of its kind in a slate", "zh": "同类商品最多展示{count}个"},
}
"""What findings and verdicts say, by language."""


def write_explanation(explained: Explanation, locale: str) -> recommendation_pb2.ExplainResponse:
    """The answer, its texts in the language of `locale`."""
    response = recommendation_pb2.ExplainResponse(
        verdict=_VERDICTS[explained.verdict],
        rank=explained.rank,
        score=explained.score,
        text=_verdict_text(explained, locale),
        model_version=explained.model_version,
    )
    for source in explained.sources:
        response.sources.add(source=source.source, rank=source.rank, score=source.score)
    for one in explained.filters:
        response.filters.add(filter=one.name, kept=one.kept, text=_text(one.text, locale))
    for name, value in explained.terms:
        response.score_terms.add(name=name, value=value)
    if explained.reason is not None:
        write_reason(response.reason, explained.reason, locale)
    for left_out in explained.degraded:
        response.degraded.add(stage=left_out.stage, cause=CAUSES[left_out.cause])
    return response


def _verdict_text(explained: Explanation, locale: str) -> str:
    names = ", ".join(one.name for one in explained.filters if not one.kept)
    parameters = {"rank": str(explained.rank), "names": names}
    return _text(Reason(explained.verdict, parameters), locale)


def _text(finding: Reason, locale: str) -> str:
    texts = _TEXTS[finding.code]
    template = texts.get(reasons.language(locale), texts["en"])
    return template.format(**finding.parameters)

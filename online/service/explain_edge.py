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
    Verdict.SELECTED: {"en": "It is in the slate.", "zh": "该商品在推荐列表中。"},
    Verdict.OUTRANKED: {
        "en": "It came {rank}. among the candidates; others came before it.",
        "zh": "该商品在候选中排第{rank}位，其他商品排在前面。",
    },
    Verdict.FILTERED: {
        "en": "It was removed by: {names}.",
        "zh": "该商品被以下条件排除：{names}。",
    },
    Verdict.NOT_RETRIEVED: {
        "en": "No source of this placement brought it.",
        "zh": "此位置的任何来源都未找到该商品。",
    },
    Verdict.UNKNOWN_ITEM: {
        "en": "It is not in the catalogue that is being served.",
        "zh": "当前商品目录中没有该商品。",
    },
    "availability": {"en": "whether the shop sells it now", "zh": "目前是否在售"},
    "request_filter": {"en": "the request's filter: {text}", "zh": "请求的筛选条件：{text}"},
    "request_region": {"en": "whether it is sold in {text}", "zh": "是否在{text}销售"},
    "blocked": {
        "en": "what is excluded, disliked, looked at, in the basket or shown of late here",
        "zh": "已排除、不喜欢、正在查看、已在购物车或近期展示过的商品",
    },
    "bought_before": {"en": "only what was bought before", "zh": "仅限买过的商品"},
    "never_bought": {"en": "only what was never bought", "zh": "仅限没买过的商品"},
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

"""Questions answered from the shop's own texts: what the search finds, as cards.

It knows the search and no other way to answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from feature_store.schema import Corpus
from online.chat.finding import CHAT, NOTHING, Finder, Found
from online.content.search import Match
from online.types import ContentDetail, Reason, SlateItem

SOURCE: Final = "content_search"
REASON: Final = Reason("answers")
NUM_ANSWERS: Final = 1


@dataclass(frozen=True, slots=True)
class Helper:
    """The search of the snapshot that a turn's finder reads."""

    finder: Finder

    def help(self, question: str, kinds: Sequence[str], language: str) -> Found:
        """The piece that answers, its card with the passage; nothing where no piece does."""
        snapshot, asked = self.finder.snapshot, self.finder.asked
        if snapshot.search is None:
            return NOTHING
        answer = snapshot.search.search(
            question, asked.request_time, NUM_ANSWERS, tuple(kinds), (language,)
        )
        items = tuple(_item(match, number) for number, match in enumerate(answer.matches))
        request = replace(asked, placement=CHAT)
        return Found(items, request if items else None, answer.degraded)


def _item(match: Match, number: int) -> SlateItem:
    card = match.card
    if isinstance(card.detail, ContentDetail):
        card = replace(card, detail=replace(card.detail, summary=match.passage))
    return SlateItem(
        item=match.item,
        index=number,
        corpus=Corpus.CONTENT,
        score=match.confidence,
        source=SOURCE,
        propensity=1.0,
        reason=REASON,
        card=card,
    )

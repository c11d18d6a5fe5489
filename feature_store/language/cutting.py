"""A text as the terms that full-text search looks for, the same where it is indexed and asked.

Chinese is cut into words (simplified first), English is reduced to stems; words that every question
has are left out. Beside words there are n-grams of characters, which a slip of the pen leaves
mostly whole. Nothing here knows a corpus.
"""

import re
import unicodedata
from functools import cache
from typing import Any, Final

import rjieba
from opencc import OpenCC

from feature_store.language.words import singular

MAX_CHARACTERS: Final = 4_000

_RUN: Final = re.compile(r"[^\W\d_㐀-鿿]+(?:['’][^\W\d_㐀-鿿]+)?|\d+|[㐀-鿿]+")
_SPACE: Final = re.compile(r"\s+")
_HAN: Final = re.compile("[㐀-鿿]")
_HAN_GRAMS: Final = (1, 2, 3)
_LETTER_GRAMS: Final = (3, 4, 5)

_EMPTY_ENGLISH: Final = (
    "a an the i my me you your we our us it its is are was were be been am do does did to of in on "
    "at for with and or if that this these those there can could will would should shall may might "
    "have has had what when where which who how why not no so as but by from up out about into "
    "than then they them he she his her got get im ive dont cant does just please tell need want "
    "any some u"
)
_EMPTY_CHINESE: Final = (
    "的 了 吗 呢 啊 我 你 您 我们 你们 是 在 有 和 就 也 都 不 很 要 会 能 可以 怎么 什么 哪 哪里 "
    "这 那 个 一个 吧 把 被 给 到 去 上 下 里 还 又 才 用 多少 几 怎么办 请问 想 让 跟 说 做 没"
)
EMPTY_WORDS: Final = frozenset(_EMPTY_ENGLISH.split()) | frozenset(_EMPTY_CHINESE.split())
"""Words that say nothing of what a question is about."""


def search_words(text: str) -> list[str]:
    """The terms of a text in their order, those that say nothing left out."""
    words: list[str] = []
    for run in _RUN.findall(plain_text(text)):
        if _HAN.match(run):
            words += rjieba.cut_for_search(run)
        else:
            words.append(stem(run.replace("'", "").replace("’", "")))
    return [word for word in words if word not in EMPTY_WORDS]


def search_grams(text: str) -> list[str]:
    """The n-grams of characters of a text, borders included: shorter ones for Chinese."""
    plain = f" {plain_text(text)} "
    lengths = _HAN_GRAMS if _HAN.search(plain) else _LETTER_GRAMS
    return [plain[at : at + size] for size in lengths for at in range(len(plain) - size + 1)]


def plain_text(text: str) -> str:
    """Half-width, simplified, small letters, single spaces."""
    plain = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).lower()
    if _HAN.search(plain):
        plain = _simplifier().convert(plain)
    return _SPACE.sub(" ", plain).strip()


def is_chinese(text: str) -> bool:
    """Whether a text has a Chinese character: a question in Chinese has, one in English has not."""
    return _HAN.search(text) is not None


def stem(word: str) -> str:
    """An English word without its plural, -ing, -ed and final e."""
    word = singular(word)
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            word = word[: -len(ending)]
            if word[-1] == word[-2] and word[-1] not in "ls":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


@cache
def _simplifier() -> Any:
    return OpenCC("t2s")

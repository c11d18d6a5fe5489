"""Which tokens of a text are slots: features of each token, and the best sequence of labels.

A linear model scores each label of each token from what stands there and around, and each pair of
neighbouring labels; the best sequence is Viterbi's. Training and serving share every line. It knows
no values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from feature_store.language.gazetteer import Match
from feature_store.language.grams import Hashes
from feature_store.language.labels import SlotKind
from feature_store.language.normal import is_han

OUTSIDE: Final = 0
LABELS: Final = ("O", *(f"{place}-{kind}" for kind in SlotKind for place in "BI"))
"""Outside; then for each kind its first token and those inside. The order is part of a bundle."""

FORBIDDEN: Final = -1e9
_NUMERALS: Final = frozenset("零〇一二两三四五六七八九十百千万半几")
_WORD_LISTS: Final = {
    "numbers": (
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
        "hundred dozen couple half few"
    ),
    "money": "$ ¥ € £ 块 元 刀 钱 dollar bucks buck usd rmb cent cents 毛 角",
    "negations": (
        "no without not minus free skip exclude except besides allergic hate hates stop never "
        "nothing don't doesn't aren't isn't dont doesnt 不 别 没 无 去 除 忌 免 敏"
    ),
}
_NUMBER_WORDS: Final = frozenset(_WORD_LISTS["numbers"].split())
_MONEY: Final = frozenset(_WORD_LISTS["money"].split())
_NEGATIONS: Final = frozenset(_WORD_LISTS["negations"].split())
_AMOUNTS: Final = frozenset("9n$")
_COMPARING: Final = {
    word: letter
    for letter, words in {
        "u": "under below les less fewer within max maximum limit budget ceiling most top tops",
        "U": "封 顶 内 下 里",
        "o": "over above least min minimum from start starting higher upward pricier up exceed",
        "O": "超 上 起 高 贵",
        "n": "no not nothing don't 不 别 没",
        "t": "to and - ~ 到 至",
        "m": "more 多",
        "s": "少",
        "l": "低",
        "r": "or",
        "b": "between",
        "p": "spend afford cost price 预",
        "c": "cheaper",
        "f": "for",
        "h": "满",
    }.items()
    for word in words.split()
}
"""Words that compare amounts, by what they say of the one beside them."""
_REACH: Final = 6
"""How far a negation and a comparing word are felt, in tokens."""


@dataclass(frozen=True, slots=True)
class Tagger:
    """Weights of features by their hash (ascending), and of pairs of labels.

    `weights` has shape (features, labels), `pairs` shape (labels + 1, labels): the last row is the
    weight of the first label.
    """

    hashes: Hashes
    weights: NDArray[np.float32]
    pairs: NDArray[np.float32]

    def tag(self, features: Sequence[Hashes]) -> list[int]:
        """The best label of each token, from the hashes of its features."""
        return best_labels(self.scores(features), self.pairs)

    def scores(self, features: Sequence[Hashes]) -> NDArray[np.float32]:
        """What each label of each token is worth by itself, shape (tokens, labels)."""
        lengths = [len(hashes) for hashes in features]
        if not sum(lengths):
            return np.zeros((len(features), len(LABELS)), np.float32)
        every = np.concatenate(features)
        place = np.minimum(np.searchsorted(self.hashes, every), len(self.hashes) - 1)
        known = (self.hashes[place] == every)[:, None]
        values = self.weights[place] * known
        starts = np.cumsum([0, *lengths[:-1]])
        summed: NDArray[np.float32] = np.add.reduceat(values, starts, axis=0)
        return summed


def best_labels(scores: NDArray[np.float32], pairs: NDArray[np.float32]) -> list[int]:
    """The sequence with the largest sum of scores and pairs (Viterbi), of shape (tokens,)."""
    best, back = scores[0] + pairs[-1], []
    inner = pairs[:-1]
    for row in scores[1:]:
        table = best[:, None] + inner
        before = table.argmax(0)
        back.append(before)
        best = table[before, np.arange(len(row))] + row
    labels = [int(best.argmax())]
    for before in reversed(back):
        labels.append(int(before[labels[-1]]))
    return labels[::-1]


def allowed_pairs() -> NDArray[np.float32]:
    """0 where a label may follow another, FORBIDDEN where not; shape (labels + 1, labels)."""
    table = np.zeros((len(LABELS) + 1, len(LABELS)), np.float32)
    for column, label in enumerate(LABELS):
        if label.startswith("I-"):
            table[:, column] = FORBIDDEN
            table[[column - 1, column], column] = 0.0
    return table


def labels_of(spans: Sequence[tuple[int, int, SlotKind]], num_tokens: int) -> list[int]:
    """The labels of tokens from spans of tokens."""
    labels = [OUTSIDE] * num_tokens
    for start, end, kind in spans:
        first = LABELS.index(f"B-{kind}")
        labels[start:end] = [first, *[first + 1] * (end - start - 1)]
    return labels


def spans_of(labels: Sequence[int]) -> list[tuple[int, int, SlotKind]]:
    """The spans of tokens that labels say."""
    spans: list[tuple[int, int, SlotKind]] = []
    for place, label in enumerate(labels):
        if LABELS[label].startswith("B-"):
            spans.append((place, place + 1, SlotKind(LABELS[label][2:])))
        elif label != OUTSIDE and spans:
            spans[-1] = (spans[-1][0], place + 1, spans[-1][2])
    return spans


def features_of(
    words: Sequence[str], keys: Sequence[str], matches: Sequence[Match]
) -> list[Hashes]:
    """The hashes of each token's features.

    `words` are the tokens in normal form, `keys` the same set right and without plural, `matches`
    the names found among them.
    """
    names = _names(len(keys), matches)
    shapes = [_shape(key) for key in keys]
    sides = _scopes(keys)
    bounds = _bounds(keys, shapes)
    padded = ["", "", "", *keys, "", "", ""]
    forms = ["", "", *shapes, "", ""]
    around = ["", *("/".join(sorted(name)) for name in names), ""]
    found = []
    for place, word in enumerate(words):
        a, b, c, key, d, e, f = padded[place : place + 7]
        p, q, shape, r, s = forms[place : place + 5]
        texts = [
            "bias", f"0{key}", f"-1{c}", f"+1{d}", f"-2{b}", f"+2{e}", f"-3{a}", f"+3{f}",
            f"-10{c}|{key}", f"01{key}|{d}", f"-2-1{b}|{c}", f"12{d}|{e}", f"-11{c}|{d}",
            f"-3-2-1{a}|{b}|{c}", f"123{d}|{e}|{f}", f"-101{c}|{key}|{d}",
            f"s{shape}", f"s-1{q}|{shape}", f"s1{shape}|{r}", f"s12{shape}|{r}|{s}",
            f"s-2{p}|{q}|{shape}", f"s0+{shape}|{d}|{e}", f"s0-{c}|{b}|{shape}",
            f"h{word[:3]}", f"t{word[-3:]}", f"tt{word[-2:]}", f"n{around[place + 1]}",
            f"n-1{around[place]}", f"n1{around[place + 2]}", f"n01{around[place + 1]}|{c}",
            *(f"g{name}" for name in names[place]),
            *(f"g-{name}|{c}" for name in names[place]),
            *(f"g+{name}|{d}" for name in names[place]),
            *bounds[place],
            *(f"x{side}" for side in sides[place]),
            *(f"x{side}|{name}" for side in sides[place] for name in names[place]),
        ]  # fmt: skip
        found.append(
            np.array([crc32(text.encode("utf-8", "replace")) for text in texts], np.uint32)
        )
    return found


def _shape(key: str) -> str:
    if key[0].isdigit():
        return "9"
    if key in _NUMERALS or key in _NUMBER_WORDS:
        return "n"
    if key in _MONEY:
        return "$"
    if is_han(key):
        return "h"
    return "a" if key[0].isalpha() else key


def _bounds(keys: Sequence[str], shapes: Sequence[str]) -> list[list[str]]:
    """At each number or sign of money, the letters of the comparing words before and after it."""
    letters = [_COMPARING.get(key, "") for key in keys]
    found: list[list[str]] = []
    for place, shape in enumerate(shapes):
        if shape not in _AMOUNTS:
            found.append([])
            continue
        before = "".join(letters[max(0, place - _REACH) : place])[-3:]
        after = "".join(letters[place + 1 : place + 1 + _REACH])[:2]
        found.append(
            [f"<{before}", f">{after}", f"<>{before}|{after}", f"<{before[-1:]}>{after[:1]}"]
        )
    return found


def _names(num_tokens: int, matches: Sequence[Match]) -> list[set[str]]:
    """For each token its place in the longest name of each kind that covers it."""
    names: list[set[str]] = [set() for _ in range(num_tokens)]
    covered: set[tuple[SlotKind, int]] = set()
    for match in matches:  # longer ones first
        places = [(match.kind, place) for place in range(match.start, match.end)]
        if covered.isdisjoint(places):
            covered.update(places)
            size = min(match.end - match.start, 4)
            how = "=" if match.exact else "~"
            for place in range(match.start, match.end):
                where = "B" if place == match.start else "E" if place == match.end - 1 else "I"
                names[place].add(f"{match.kind}{how}{where}{size}")
    return names


def _scopes(keys: Sequence[str]) -> list[list[str]]:
    """What is felt at each token of a negation before it, in the same part of the sentence."""
    felt: list[list[str]] = []
    distance, word = _REACH, ""
    for key in keys:
        if key in ",.;!?，。；！？、":
            distance = _REACH
        felt.append([f"not{min(distance, 3)}", f"no:{word}"] if distance < _REACH else [])
        distance += 1
        if key in _NEGATIONS:
            distance, word = 0, key
    return felt

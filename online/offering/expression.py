"""Filter expressions: text in the filter language of AIP-160 becomes a tree.

The language is https://google.aip.dev/160: `price < 5 AND category:"Produce" AND NOT brand =
"Acme"`. As there, OR binds tighter than AND, a space between restrictions means AND, and `-`
means NOT. It knows the grammar, and neither the fields that there are nor what they mean.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from online.errors import RequestError

MAX_RESTRICTIONS: Final = 100
MAX_DEPTH: Final = 20
MAX_WILDCARDS: Final = 5
"""A value with a `*` in it is compared with every word that there is."""

WILDCARD: Final = "*"

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<open>\() | (?P<close>\)) | (?P<operator><=|>=|!=|=|<|>|:) | (?P<comma>,)
    | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<minus>-)(?=[A-Za-z_(])
    | (?P<text>[^\s()<>=!:,"']+)
    )""",
    re.VERBOSE,
)
_WORDS: Final = frozenset({"AND", "OR", "NOT"})
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Restriction:
    """One comparison, such as `price < 5`; `position` counts characters from 0.

    `is_quoted`: the value was in quotes, so that `*` in it stands for itself.
    """

    field: str
    operator: str
    value: str
    is_quoted: bool
    position: int

    @property
    def is_presence(self) -> bool:
        """Whether it asks for any value at all."""
        return self.operator == ":" and self.value == WILDCARD and not self.is_quoted

    @property
    def is_pattern(self) -> bool:
        """Whether `*` in its value stands for any text."""
        return WILDCARD in self.value and not self.is_quoted and not self.is_presence


@dataclass(frozen=True, slots=True)
class Not:
    """What the part does not say."""

    part: "Expression"


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of the parts at once; without parts: anything."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of the parts."""

    parts: tuple["Expression", ...]


Expression = Restriction | Not | AllOf | AnyOf


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


_END: Final = "end"


def parse(text: str) -> Expression:
    """The tree of an expression; RequestError names what is wrong and at which character."""
    return _Parser(_tokens(text)).whole()


def restrictions_of(expression: Expression) -> Iterator[Restriction]:
    """Every comparison of an expression, from left to right."""
    if isinstance(expression, Restriction):
        yield expression
        return
    parts = (expression.part,) if isinstance(expression, Not) else expression.parts
    for part in parts:
        yield from restrictions_of(part)


def refused(position: int, description: str) -> RequestError:
    """The error of an expression; `position` counts from 0, the message from 1."""
    return RequestError("filter", f"at character {position + 1}: {description}")


def _tokens(text: str) -> list[_Token]:
    found, end = [], len(text.rstrip())
    position = 0
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            what = "the quote is never closed" if text[start] in "\"'" else "is not understood"
            raise refused(start, what)
        found.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        position = match.end()
    return [*found, _Token(_END, "", end)]


class _Parser:
    """A parser by recursive descent, one method a rule of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._num_restrictions = 0
        self._num_patterns = 0

    def whole(self) -> Expression:
        """The expression, which must end where the text does."""
        if self._next.kind == _END:
            return AllOf(())
        tree = self._conjunction()
        if self._next.kind != _END:
            raise refused(self._next.position, f"`{self._next.text}` is not expected here")
        return tree

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place += 1
        return token

    def _is_word(self, word: str) -> bool:
        return self._next.kind == "text" and self._next.text == word

    def _conjunction(self) -> Expression:
        """Sequences joined by AND, or by nothing but a space."""
        parts = [self._disjunction()]
        while self._next.kind not in (_END, "close"):
            if self._is_word("AND"):
                self._take()
            parts.append(self._disjunction())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _disjunction(self) -> Expression:
        parts = [self._term()]
        while self._is_word("OR"):
            self._take()
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _term(self) -> Expression:
        if self._next.kind == "minus" or self._is_word("NOT"):
            self._take()
            return Not(self._simple())
        return self._simple()

    def _simple(self) -> Expression:
        if self._next.kind != "open":
            return self._restriction()
        opened = self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise refused(opened.position, f"more than {MAX_DEPTH} parentheses deep")
        inside = self._conjunction()
        if self._next.kind != "close":
            raise refused(opened.position, "the parenthesis is never closed")
        self._take()
        self._depth -= 1
        return inside

    def _restriction(self) -> Expression:
        field = self._take()
        if field.kind != "text" or field.text in _WORDS:
            raise refused(field.position, "a field's name is expected, such as `price`")
        if self._next.kind != "operator":
            raise refused(self._next.position, f"`{field.text}` needs a comparison, such as `= 5`")
        operator, value = self._take(), self._take()
        if value.kind not in ("text", "quoted") or value.text in _WORDS:
            raise refused(value.position, "a value is expected")
        self._num_restrictions += 1
        if self._num_restrictions > MAX_RESTRICTIONS:
            raise refused(field.position, f"more than {MAX_RESTRICTIONS} comparisons")
        is_quoted = value.kind == "quoted"
        text = _ESCAPED.sub(r"\1", value.text[1:-1]) if is_quoted else value.text
        found = Restriction(field.text, operator.text, text, is_quoted, field.position)
        self._num_patterns += found.is_pattern
        if self._num_patterns > MAX_WILDCARDS:
            raise refused(value.position, f"more than {MAX_WILDCARDS} values with `*`")
        return found

"""The schema of a campaign file: one row a field, with how it is read and what it means.

It knows how values are written, and nothing of what is done with them.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from online.errors import RequestError
from online.explain.reasons import LANGUAGES, language
from online.offering.expression import parse
from online.placements import MAX_PAGE_SIZE, PLACEMENTS

Read = Callable[[Any], Any]
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in the file, how a value of it is read, what it means."""

    name: str
    read: Read
    about: str
    example: str = ""
    required: bool = False


def identifier(value: Any) -> str:
    """A name for files and events."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError("should be 1 to 64 letters, digits, dots, - or _, e.g. spring-2026")
    return value


def text(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} should be text")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list):
        raise TypeError(f"{value!r} should be a list of texts")
    return tuple(text(one) for one in value)


def truth(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} should be true or false")
    return value


def instant(value: Any) -> int:
    """An instant with a time zone, as microseconds UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise TypeError("should be an instant with a time zone, e.g. 2026-12-01T06:00:00Z")
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def number(low: float, high: float) -> Read:
    """A number from `low` to `high`."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{value!r} should be a number")
        if not low <= value <= high:
            raise ValueError(f"{value} should lie between {low:g} and {high:g}")
        return float(value)

    return read


def whole(low: int, high: int) -> Read:
    """A whole number from `low` to `high`."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{value!r} should be a whole number")
        if not low <= value <= high:
            raise ValueError(f"{value} should lie between {low} and {high}")
        return value

    return read


def placement(value: Any) -> str:
    """A placement of the engine."""
    if value not in PLACEMENTS:
        raise ValueError(f"there is no placement {value!r}, use of: {', '.join(PLACEMENTS)}")
    return str(value)


def filter_text(value: Any) -> str:
    """A filter that can be parsed; which fields it may name is known where it is used."""
    try:
        parse(text(value))
    except RequestError as error:
        raise ValueError(str(error)) from error
    return str(value)


def locale(value: Any) -> str:
    """A language that there are reasons in, or `user`."""
    if value != "user" and language(text(value)) not in LANGUAGES:
        raise ValueError(f"{value!r} should be `user` or one of: {', '.join(sorted(LANGUAGES))}")
    return str(value)


def subject(value: Any) -> str:
    """A line with {variables}."""
    try:
        variables(text(value))
    except ValueError as error:
        raise ValueError(str(error)) from error
    return str(value)


@cache
def variables(subject_line: str) -> tuple[str, ...]:
    """The names of the variables of a subject line."""
    names = [name for _, name, _, _ in string.Formatter().parse(subject_line) if name is not None]
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"{{{name}}} is no name of a variable")
    return tuple(names)


ROOT: Final = (
    Field("campaign", identifier, "its id, in files, tokens and events", "spring", required=True),
    Field("title", text, "what people call it"),
    Field("send_time", instant, "when it is sent, which is the engine's instant; none: the "
          "end of the model's data", "2026-12-01T06:00:00Z"),
    Field("language", locale, "of reasons and texts; `user`: each user's own"),
    Field("subject", subject, "with {columns of the audience file}, {top_title}, {num_products}"),
    Field("placement", placement, "which row of the engine's placements answers"),
    Field("filter", filter_text, "which products may be shown, as in a request"),
    Field("region", text, "where they must be sold; `user`: each user's own"),
    Field("exclude_items", texts, "products that are in no mail"),
    Field("diversity", number(0, 1), "how varied, 0 to 1; none: as the placement says"),
    Field("no_repeat_days", number(0, 365), "for how long what was in a mail is in none"),
    Field("coupon_budget", number(0, 1e12), "expected cost of all coupons of the campaign"),
    Field("preview_users", whole(0, 200), "how many mails the preview shows"),
)  # fmt: skip

SECTIONS: Final = {
    "audience": (
        Field("file", text, "CSV or Parquet, one row a person; none: all whom the store knows"),
        Field("user_column", text, "the column of the shop's user ids"),
        Field("filter", filter_text, "over segment, region, language, lifecycle, recency_days, "
              "tenure_days, num_orders, spend, r, f, m, loves, and attributes such as age",
              'lifecycle = lapsed AND loves:"Dairy"'),
        Field("suppression", text, "CSV or Parquet with the ids of who gets no mails at all"),
        Field("unpersonalized", truth, "whether who allows no personalization gets what is "
              "popular, or no mail"),
    ),
    "slots": (
        Field("products", whole(0, MAX_PAGE_SIZE), "how many products"),
        Field("content", whole(0, 20), "how many pieces of content"),
        Field("coupons", whole(0, 20), "how many coupons"),
        Field("min_products", whole(0, MAX_PAGE_SIZE), "with fewer there is nothing to say"),
        Field("content_kinds", texts, "only these kinds of content"),
    ),
    "hold_out": (
        Field("share", number(0, 0.9), "of the people, who get no mail"),
        Field("group", identifier, "campaigns of one group hold out the same people"),
    ),
}  # fmt: skip

LISTS: Final = {
    "caps": (
        Field("mails", whole(1, 1000), "at most so many, of all campaigns", required=True),
        Field("days", number(0.01, 3650), "within so many days", required=True),
    ),
    "arms": (
        Field("name", identifier, "of the arm", required=True),
        Field("share", number(0, 1e6), "relative to the other arms"),
        Field("placement", placement, "in place of the campaign's"),
        Field("filter", filter_text, "in place of the campaign's"),
        Field("diversity", number(0, 1), "in place of the campaign's"),
        Field("subject", subject, "in place of the campaign's"),
    ),
}


def described() -> str:
    """The schema as text for a terminal."""
    lines = ["fields of a campaign file (TOML):"]
    tables = [("", ROOT), *((f"[{n}]", f) for n, f in SECTIONS.items())]
    for title, fields in [*tables, *((f"[[{n}]]", f) for n, f in LISTS.items())]:
        lines += [f"  {title}"] if title else []
        lines += [f"    {one.name:<16}{one.about}{_hint(one)}" for one in fields]
    return "\n".join(lines)


def _hint(field: Field) -> str:
    hints = [f"e.g. {field.example}"] if field.example else []
    hints += ["required"] if field.required else []
    return f" ({'; '.join(hints)})" if hints else ""

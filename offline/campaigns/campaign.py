"""A campaign as frozen values, and what each field of its file means.

The table of fields is the schema: reading, `--help` and the errors come from it. It knows no
file, no user and no engine.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOLD_OUT: Final = "hold_out"
"""The arm of those who are not written to, so that the others can be compared with them."""

ONLY_ARM: Final = "all"
"""The arm of everybody in a campaign without a test."""

USERS_OWN: Final = "user"
"""As a language or a region: that of the user, as the table of users has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who may be meant. `file` None: everybody of whom the online store knows something."""

    file: Path | None = None
    user_column: str = "user"
    filter: str = ""
    suppression: Path | None = None
    unpersonalized: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """How many of each corpus a mail holds; with fewer products than `min_products`, no mail."""

    products: int = 4
    content: int = 0
    coupons: int = 0
    min_products: int = 1
    content_kinds: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many places a mail has."""
        return self.products + self.content + self.coupons


@dataclass(frozen=True, slots=True, kw_only=True)
class MailCap:
    """At most `mails` mails of all campaigns within `days`, this one counted."""

    mails: int
    days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOut:
    """The share of people who get nothing; the same people for each campaign of the `group`."""

    share: float = 0.0
    group: str = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to write the mail; None: as the campaign says. Shares are relative to each other."""

    name: str
    share: float = 1.0
    placement: str | None = None
    filter: str | None = None
    diversity: float | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign as its file says. Instants are microseconds UTC.

    `send_time` None: the horizon of the bundle. `no_repeat_days` is for how long what was in a
    mail is in none. `coupon_budget` None: what the coupons' own budgets leave.
    """

    campaign: str
    title: str = ""
    send_time: int | None = None
    language: str = "en"
    subject: str = ""
    placement: str = "email"
    filter: str = ""
    region: str = ""
    exclude_items: tuple[str, ...] = ()
    diversity: float | None = None
    no_repeat_days: float = 6.0
    audience: Audience = Audience()
    slots: Slots = Slots()
    caps: tuple[MailCap, ...] = ()
    hold_out: HoldOut = HoldOut()
    arms: tuple[Arm, ...] = (Arm(name=ONLY_ARM),)
    coupon_budget: float | None = None
    preview_users: int = 12
    digest: str = ""

    def arm(self, name: str) -> Arm:
        """The arm of that name; KeyError without one."""
        return {one.name: one for one in self.arms}[name]

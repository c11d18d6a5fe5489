"""What a server is told from outside: environment variables become one frozen object.

Every option is one field below: its variable is AISLE_ and the name, its flag of
`python -m online serve` is `--` and the name. There is no configuration file. A variable
that nobody reads is an error, since it is a misspelt one. It opens and connects to nothing.
"""

import argparse
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

from feature_store.errors import SettingsError
from feature_store.ids import MIN_KEY_BYTES

PREFIX: Final = "AISLE_"
HIDDEN: Final = "(hidden)"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class Clock(StrEnum):
    """Which instant a request is answered for."""

    WALL = "wall"
    HORIZON = "horizon"


@dataclass(frozen=True, slots=True)
class Option:
    """How the text of a setting is read, with ValueError for a bad one, and what it is for."""

    parse: Callable[[str], Any]
    description: str


def _at_least(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < minimum:
            raise ValueError(f"must be {minimum} or more")
        return number

    return parse


def _matching(pattern: str, example: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must look like {example}")
        return text

    return parse


def _clock(text: str) -> Clock:
    if text not in tuple(Clock):
        raise ValueError("must be wall or horizon")
    return Clock(text)


def _log_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return text


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError("must be from 0 to 1")
    return share


def _topics(text: str) -> str:
    for topic in text.split(","):
        if topic not in ("safety", "legal", "payment", "none"):
            raise ValueError(f"knows no topic {topic!r}, use of: safety,legal,payment,none")
    return text


def _key(text: str) -> bytes:
    if not re.fullmatch(r"([0-9A-Fa-f]{2})+", text) or len(text) < 2 * MIN_KEY_BYTES:
        raise ValueError(f"must be at least {2 * MIN_KEY_BYTES} hexadecimal digits, better 64")
    return bytes.fromhex(text)


@dataclass(frozen=True, slots=True)
class Settings:
    """All options of one serving process. `print` shows them as variables, secrets hidden."""

    home: Annotated[Path, Option(Path, "folder of all that aisle keeps")] = Path("var")
    store: Annotated[str, Option(str, "online store; default lmdb:HOME/store")] = ""
    event_log: Annotated[
        str,
        Option(
            _matching(r"nats://[^\s/]+(/[A-Za-z0-9_-]+)?", "nats://HOST:4222/aisle"),
            "event log of several machines; default: spools in HOME/event_log",
        ),
    ] = ""
    ledger: Annotated[
        str,
        Option(
            _matching(r"(sqlite:|rediss?://|unix://)\S+", "redis://HOST:6379/0"),
            "ledger of coupon claims; default the store if shared, else HOME/ledger/ledger.sqlite",
        ),
    ] = ""
    bundle: Annotated[
        Path | None,
        Option(Path, "bundle to serve; default the one that HOME/serving/champion.json names"),
    ] = None
    address: Annotated[
        str, Option(_matching(r"\S+:\d+", "127.0.0.1:50051"), "where to listen; port 0: any")
    ] = "127.0.0.1:50051"
    clock: Annotated[
        Clock, Option(_clock, "wall: the time now; horizon: the end of the bundle's data")
    ] = Clock.WALL
    pseudonym_key: Annotated[
        bytes | None,
        Option(_key, "secret that makes pseudonyms of user ids; default HOME/pseudonym.key"),
    ] = None
    pseudonym_key_previous: Annotated[
        bytes | None,
        Option(_key, "the secret before, while it is rotated: users move when they are seen"),
    ] = None
    tombstone_key: Annotated[
        bytes | None,
        Option(_key, "secret that marks who was erased; default HOME/tombstone.key"),
    ] = None
    locale: Annotated[
        str,
        Option(_matching(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", "en or zh-CN"), "shop's language"),
    ] = "en"
    currency: Annotated[
        str, Option(_matching(r"[A-Z]{3}", "USD"), "shop's currency; default: any is taken")
    ] = ""
    workers: Annotated[int, Option(_at_least(1), "processes that share the port and answer")] = 1
    hang_s: Annotated[
        int, Option(_at_least(1), "seconds of silence after which a worker is replaced")
    ] = 5
    log_level: Annotated[
        str, Option(_log_level, "what is logged: debug, info, warning or error")
    ] = "info"
    metrics_address: Annotated[
        str,
        Option(_matching(r"\S+:\d+", "127.0.0.1:9464"), "where to listen for Prometheus"),
    ] = ""
    deadline_ms: Annotated[
        int, Option(_at_least(1), "longest time of a Recommend, whatever the client allows")
    ] = 250
    max_recommends: Annotated[
        int, Option(_at_least(1), "Recommend calls at a time; more are told to try again")
    ] = 64
    max_writes: Annotated[
        int, Option(_at_least(1), "event writing calls at a time; more are told to try again")
    ] = 256
    max_message_kb: Annotated[int, Option(_at_least(16), "largest message, in KiB")] = 4096
    max_future_s: Annotated[
        int, Option(_at_least(0), "how many seconds in the future an event may lie")
    ] = 300
    drain_s: Annotated[
        int, Option(_at_least(0), "longest wait for calls in flight at SIGTERM, in seconds")
    ] = 10
    chat_topics: Annotated[
        str, Option(_topics, "topics for which the chat calls a person, or none")
    ] = "safety,legal,payment"
    chat_goodwill: Annotated[
        str, Option(str, "coupons that the chat may offer for the trouble; default: none")
    ] = ""
    reservation_h: Annotated[
        int, Option(_at_least(1), "hours after which a claimed coupon that is not used is free")
    ] = 24
    parity_sample: Annotated[
        float, Option(_share, "share of requests whose features are noted for offline parity")
    ] = 0.0

    @property
    def store_url(self) -> str:
        """The address of the online store."""
        return self.store or f"lmdb:{self.home / 'store'}"

    @property
    def shares_store(self) -> bool:
        """Whether the online store serves several machines."""
        return self.store_url.partition(":")[0] in ("redis", "rediss", "unix")

    @property
    def ledger_url(self) -> str:
        """The address of the ledger: who shares a store shares it too, or they overspend."""
        own = f"sqlite:{self.home / 'ledger' / 'ledger.sqlite'}"
        return self.ledger or (self.store_url if self.shares_store else own)

    @property
    def host(self) -> str:
        """The part of the address before the port."""
        return self.address.rpartition(":")[0]

    def __str__(self) -> str:
        """One variable a line, secrets hidden."""
        shown = {name: str(getattr(self, name)) for name in FIELDS if name not in SECRETS}
        urls = {"store": self.store_url, "event_log": self.event_log, "ledger": self.ledger_url}
        for name, url in urls.items():
            shown[name] = re.sub(r"//[^@/]*@", f"//{HIDDEN}@", url)
        for name, default in SECRETS.items():
            shown[name] = HIDDEN if getattr(self, name) else default.format(self.home)
        shown["bundle"] = str(self.bundle or f"{self.home}/serving/champion.json")
        return "\n".join(f"{variable(name)}={shown[name]}" for name in FIELDS)

    __repr__ = __str__


SECRETS: Final = {
    "pseudonym_key": "{}/pseudonym.key",
    "pseudonym_key_previous": "",
    "tombstone_key": "{}/tombstone.key",
}
"""The fields that are never shown, and what is shown where they are not given."""

FIELDS: Final[Mapping[str, Option]] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Settings, include_extras=True).items()
}
"""The option of each field of Settings."""


def variable(name: str) -> str:
    """The environment variable of a field."""
    return PREFIX + name.upper()


def read_settings(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Settings:
    """The settings: flags (by field name, None: not given) over environment over defaults.

    Raises SettingsError for a value that cannot be used and for a variable of ours that does
    not exist.
    """
    known = {variable(name): name for name in FIELDS}
    ours = {key: value for key, value in environment.items() if key.startswith(PREFIX)}
    for key in ours:
        if key not in known:
            raise SettingsError(_unknown(key, known))
    texts = {known[key]: (key, value) for key, value in ours.items()}
    texts |= {name: (flag(name), text) for name, text in flags.items() if text is not None}
    return Settings(**{name: _parse(name, *given) for name, given in texts.items()})


def as_variables(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> dict[str, str]:
    """The environment from which another process reads the settings that these give."""
    given = {variable(name): text for name, text in flags.items() if text is not None}
    return {**environment, **given}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each field; a secret has none, since command lines are seen by everybody."""
    for name, option in FIELDS.items():
        if name not in SECRETS:
            parser.add_argument(flag(name), metavar="VALUE", help=option.description)


def flag(name: str) -> str:
    """The command line's flag of a field."""
    return "--" + name.replace("_", "-")


def _parse(name: str, origin: str, text: str) -> Any:
    try:
        if not text:
            raise ValueError("must not be empty; leave it out for the default")
        return FIELDS[name].parse(text)
    except ValueError as error:
        shown = HIDDEN if name in SECRETS else repr(text)
        raise SettingsError(f"{origin}={shown}: {error} ({FIELDS[name].description})") from None


def _unknown(key: str, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(key, known, 1, cutoff=0.8)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"{key} is no setting: {hint}"

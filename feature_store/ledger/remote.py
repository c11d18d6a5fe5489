"""The ledger in Redis or Valkey, for several machines: one script, in which every step is atomic.

One round trip a call. How durable an answer is, is the server's setting: with `appendonly yes` and
`appendfsync always` what was acknowledged outlives the server's machine. A cluster is not
supported.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_store.errors import LedgerError, LedgerUrlError
from feature_store.ledger.claims import (
    Account,
    Answer,
    Ask,
    Changes,
    Charge,
    Claim,
    Outcome,
    Redemption,
    State,
    Verdict,
    require_amount,
)

NAMESPACE: Final = "aisle-ledger:"
TIMEOUT_S: Final = 2.0
EXPIRED_AT_ONCE: Final = 500
SCRIPT: Final = Path(__file__).with_name("ledger.lua")

_REPEATED: Final = "repeated"


class RedisLedger:
    """A Ledger on a server; its keys start with a namespace, so that it can be shared.

    Nothing is retried when the server does not answer: the caller sends the same id again.
    """

    def __init__(self, client: "redis.Redis", namespace: str = NAMESPACE) -> None:
        """`client` must return bytes and not retry. Raises LedgerError."""
        self._client = client
        self._namespace = namespace
        self._is_open = True
        self._script = client.register_script(SCRIPT.read_text(encoding="utf-8"))
        with self._server():
            client.ping()

    @classmethod
    def from_url(cls, url: str) -> "RedisLedger":
        """Connect to a redis://, rediss:// or unix:// address, see `open_ledger`."""
        options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        given = options.pop("namespace", "")
        namespace = f"{given}ledger:" if given else NAMESPACE  # apart from a store's keys
        try:
            client = redis.Redis.from_url(
                f"{url.partition('?')[0]}?{urlencode(options)}",
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise LedgerUrlError(f"the ledger's address cannot be used: {error}") from error
        return cls(client, namespace)

    def claim(self, ask: Ask) -> Answer:
        """See Ledger."""
        charges = [value for charge in ask.charges for value in _charge(charge)]
        first = (ask.claim_id, ask.item, ask.user, ask.micros, ask.now_time, ask.expire_time)
        lists = [json.dumps(one) for one in (ask.expectations, ask.barred)]
        word, account, row = self._run("claim", *first, *lists, *charges)
        if word == _REPEATED:
            return Answer(Verdict.GRANTED, _read(row), is_repeated=True)
        if word == Verdict.BARRED:
            return Answer(Verdict.BARRED, held=account)
        return Answer(Verdict(word), _read(row), account)

    def redeem(self, claim_id: str, basket: str, micros: int, now_time: int) -> Redemption:
        """See Ledger."""
        require_amount(micros)
        word, row = self._run("redeem", claim_id, basket, micros, now_time)
        return Redemption(Outcome(word), _read(row))

    def reserve_expected(
        self, expectation: str, charge: Charge, micros: int, now_time: int, expire_time: int
    ) -> bool:
        """See Ledger."""
        require_amount(micros)
        given = (expectation, micros, now_time, expire_time, *_charge(charge))
        return bool(self._run("expect", *given))

    def release_expected(self, expectation: str) -> None:
        """See Ledger."""
        self._run("release", expectation)

    def release_all_expected(self, prefix: str) -> int:
        """See Ledger."""
        pattern = f"{_literally(f'x:{prefix}')}*"
        with self._server():
            due = self._client.zscan_iter(f"{self._namespace}d", match=pattern, count=1_000)
            names = {name.decode()[2:] for name, _ in due}
        return sum(int(self._run("release", name)) for name in names)

    def expire(self, now_time: int) -> int:
        """See Ledger."""
        num_freed = 0
        while True:
            freed = int(self._run("expire", now_time))
            num_freed += freed
            if freed < EXPIRED_AT_ONCE:
                return num_freed

    def changes(self, since_version: int) -> Changes:
        """See Ledger."""
        version, rows = self._run("changes", since_version)
        accounts = {name: Account(*map(int, values)) for name, *values in rows}
        return Changes(int(version), accounts)

    def claims_of(self, user: str) -> list[Claim]:
        """See Ledger."""
        return self.claims_of_many([user])[user]

    def claims_of_many(self, users: Sequence[str]) -> dict[str, list[Claim]]:
        """See Ledger."""
        with self._server():
            together = self._client.pipeline(transaction=False)
            for user in users:
                self._script([self._namespace], ["claims_of", user], together)
            answers = _text(together.execute())
        found = {}
        for user, rows in zip(users, answers, strict=True):
            claims = [claim for row in rows if (claim := _read(row))]
            found[user] = sorted(claims, key=lambda one: (one.claim_time, one.claim_id))
        return found

    def users(self) -> set[str]:
        """See Ledger."""
        prefix = f"{self._namespace}u:"
        with self._server():
            keys = self._client.scan_iter(match=f"{_literally(prefix)}*", count=1_000)
            return {key.decode()[len(prefix) :] for key in keys}

    def find(self, claim_id: str) -> Claim | None:
        """See Ledger."""
        return _read(self._run("find", claim_id))

    def move(self, source: str, target: str) -> int:
        """See Ledger."""
        return int(self._run("move", source, target))

    def forget(self, user: str) -> int:
        """See Ledger."""
        return int(self._run("move", user, ""))

    def shred(self) -> None:
        """See Ledger: a server's own log is the server's to rewrite."""

    def close(self) -> None:
        """See Ledger."""
        self._is_open = False
        self._client.close()

    def _run(self, step: str, *arguments: str | int) -> Any:
        with self._server():
            return _text(self._script(keys=[self._namespace], args=[step, *arguments]))

    @contextmanager
    def _server(self) -> Iterator[None]:
        if not self._is_open:
            raise LedgerError("the ledger is closed; open it again with open_ledger")
        try:
            yield
        except redis.RedisError as error:
            message = f"the ledger's server failed: {type(error).__name__}: {error}"
            raise LedgerError(message) from error


def _literally(text: str) -> str:
    """A pattern of the server that this text alone matches."""
    return "".join(f"\\{one}" if one in "*?[]^-\\" else one for one in text)


def _charge(charge: Charge) -> tuple[str, int, int, int]:
    """A charge as the script takes it: -1 is unlimited."""
    limits = [-1 if one is None else one for one in (charge.max_micros, charge.max_claims)]
    return charge.account, limits[0], limits[1], int(charge.is_shared)


def _text(value: Any) -> Any:
    """What the server gave, its bytes as text."""
    if isinstance(value, bytes):
        return value.decode()
    return [_text(one) for one in value] if isinstance(value, list) else value


def _read(row: Sequence[str]) -> Claim | None:
    if not row:
        return None
    claim_id, item, user = row[:3]
    reserved, settled, claim_time, expire_time, settle_time = map(int, row[4:9])
    return Claim(
        *(claim_id, item, user, State(row[3]), reserved, settled),
        *(claim_time, expire_time, settle_time, row[9]),
    )

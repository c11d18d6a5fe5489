"""The ledger in a SQLite file, for all processes of one machine."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from feature_store.ledger.claims import (
    STATES,
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
    refusal,
    require_amount,
)
from feature_store.ledger.database import Database, Row

EXPIRED_AT_ONCE: Final = 500
"""How much of what is due a claim sets free at most, so that it does not wait for long."""

_CLAIM: Final = (
    "claim_id, item, user, state, reserved, settled, claim_time, expire_time, settle_time, basket"
)
_RESERVED, _SETTLED, _EXPIRED = (STATES.index(state) for state in State)


class SqliteLedger:
    """A Ledger in a file of this machine."""

    def __init__(self, path: Path) -> None:
        """Open the ledger, making it when absent. Raises LedgerError."""
        self._database = Database(path)

    def claim(self, ask: Ask) -> Answer:
        """See Ledger."""
        with self._database.transaction() as connection:
            _expire(connection, ask.now_time, EXPIRED_AT_ONCE)
            if (there := _find(connection, ask.claim_id)) is not None:
                return Answer(Verdict.GRANTED, there, is_repeated=True)
            if held := _barring(connection, ask):
                return Answer(Verdict.BARRED, held=held)
            drawn = {name: (of, part) for of, name, part in _drawn(connection, ask)}
            changed = {}
            for charge in ask.charges:
                before = _account(connection, charge.account)
                _, part = drawn.get(charge.account, ("", 0))
                after = _charged(before, ask.micros, part)
                if refused := refusal(charge, after.claims, after.spent):
                    return Answer(refused, account=charge.account)
                changed[charge] = after
            _write_accounts(connection, {one.account: after for one, after in changed.items()})
            _share(connection, [one.account for one in ask.charges if one.is_shared])
            statement = "UPDATE expectations SET amount = amount - ? WHERE name = ?"
            connection.executemany(statement, [(part, of) for of, part in drawn.values()])
            _insert(connection, ask)
            return Answer(Verdict.GRANTED, _find(connection, ask.claim_id))

    def redeem(self, claim_id: str, basket: str, micros: int, now_time: int) -> Redemption:
        """See Ledger."""
        require_amount(micros)
        with self._database.transaction() as connection:
            _expire(connection, now_time, EXPIRED_AT_ONCE)
            claim = _find(connection, claim_id)
            outcome = _outcome(claim, basket, micros, now_time)
            if claim is None or outcome is not Outcome.SETTLED or claim.state is State.SETTLED:
                return Redemption(outcome, claim)
            connection.execute(
                "UPDATE claims SET state = ?, settled = ?, settle_time = ?, basket = ?"
                " WHERE claim_id = ?",
                (_SETTLED, micros, now_time, basket, claim_id),
            )
            for name in _accounts_of(connection, claim_id):
                _add(connection, name, reserved=-claim.reserved, settled=micros)
            return Redemption(outcome, _find(connection, claim_id))

    def reserve_expected(
        self, expectation: str, charge: Charge, micros: int, now_time: int, expire_time: int
    ) -> bool:
        """See Ledger."""
        require_amount(micros)
        with self._database.transaction() as connection:
            _expire(connection, now_time, EXPIRED_AT_ONCE)
            there = "SELECT 1 FROM expectations WHERE name = ?"
            if connection.execute(there, (expectation,)).fetchone():
                return True
            before = _account(connection, charge.account)
            if refusal(charge, before.claims, before.spent + micros):
                return False
            _write_accounts(connection, {charge.account: before})
            _share(connection, [charge.account])
            _add(connection, charge.account, expected=micros)
            connection.execute(
                "INSERT INTO expectations VALUES (?, ?, ?, ?)",
                (expectation, charge.account, micros, expire_time),
            )
            return True

    def release_expected(self, expectation: str) -> None:
        """See Ledger."""
        with self._database.transaction() as connection:
            _release(connection, "name = ?", expectation)

    def release_all_expected(self, prefix: str) -> int:
        """See Ledger."""
        with self._database.transaction() as connection:
            return _release(connection, "instr(name, ?) = 1", prefix)

    def expire(self, now_time: int) -> int:
        """See Ledger."""
        num_freed = 0
        while True:
            with self._database.transaction() as connection:
                freed = _expire(connection, now_time, EXPIRED_AT_ONCE)
            num_freed += freed
            if freed < EXPIRED_AT_ONCE:
                return num_freed

    def changes(self, since_version: int) -> Changes:
        """See Ledger."""
        rows = self._database.rows(
            "SELECT version, name, claims, reserved, settled, expected FROM accounts"
            " WHERE version > ? ORDER BY version",
            max(0, since_version),
        )
        version = rows[-1][0] if rows else since_version
        return Changes(version, {name: Account(*values) for _, name, *values in rows})

    def claims_of(self, user: str) -> list[Claim]:
        """See Ledger."""
        return self.claims_of_many([user])[user]

    def claims_of_many(self, users: Sequence[str]) -> dict[str, list[Claim]]:
        """See Ledger."""
        rows = self._database.rows(
            f"SELECT {_CLAIM} FROM claims"  # noqa: S608  # no values
            " WHERE user IN (SELECT value FROM json_each(?)) AND state != ?"
            " ORDER BY claim_time, claim_id",
            json.dumps(list(users)),
            _EXPIRED,
        )
        found: dict[str, list[Claim]] = {user: [] for user in users}
        for claim in map(_read, rows):
            found[claim.user].append(claim)
        return found

    def users(self) -> set[str]:
        """See Ledger."""
        rows = self._database.rows("SELECT DISTINCT user FROM claims WHERE user != ''")
        return {user for (user,) in rows}

    def find(self, claim_id: str) -> Claim | None:
        """See Ledger."""
        statement = f"SELECT {_CLAIM} FROM claims WHERE claim_id = ?"  # noqa: S608
        rows = self._database.rows(statement, claim_id)
        return _read(rows[0]) if rows else None

    def move(self, source: str, target: str) -> int:
        """See Ledger. Where there is nothing to move it writes nothing."""
        if not self._database.rows("SELECT 1 FROM claims WHERE user = ? LIMIT 1", source):
            return 0
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT claim_id, state, reserved, settled, accounts FROM claims WHERE user = ?",
                (source,),
            ).fetchall()
            for claim_id, state, reserved, settled, accounts in rows:
                names = json.loads(accounts)
                moved = [name.replace(source, target) for name in names]
                if state != _EXPIRED:
                    held = reserved if state == _RESERVED else 0
                    for before, after in zip(names, moved, strict=True):
                        if before != after:
                            _write_accounts(connection, {after: _account(connection, after)})
                            _add(connection, before, -1, -held, -settled)
                            _add(connection, after, 1, held, settled)
                connection.execute(
                    "UPDATE claims SET user = ?, accounts = ? WHERE claim_id = ?",
                    (target, json.dumps(moved), claim_id),
                )
            connection.execute("DELETE FROM accounts WHERE instr(name, ?) > 0", (source,))
            return len(rows)

    def forget(self, user: str) -> int:
        """See Ledger."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT claim_id, accounts FROM claims WHERE user = ?", (user,)
            ).fetchall()
            for claim_id, accounts in rows:
                kept = [name for name in json.loads(accounts) if user not in name]
                connection.execute(
                    "UPDATE claims SET user = '', accounts = ? WHERE claim_id = ?",
                    (json.dumps(kept), claim_id),
                )
            connection.execute("DELETE FROM accounts WHERE instr(name, ?) > 0", (user,))
            return len(rows)

    def shred(self) -> None:
        """See Ledger."""
        self._database.shred()

    def close(self) -> None:
        """See Ledger."""
        self._database.close()


def _charged(before: Account, micros: int, drawn: int) -> Account:
    return Account(
        before.claims + 1, before.reserved + micros, before.settled, before.expected - drawn
    )


def _outcome(claim: Claim | None, basket: str, micros: int, now_time: int) -> Outcome:
    """What a redemption ends in, before anything is changed."""
    if claim is None:
        return Outcome.UNKNOWN
    if claim.state is State.SETTLED:
        return Outcome.SETTLED if claim.basket == basket else Outcome.ALREADY_USED
    if claim.state is State.EXPIRED or claim.expire_time <= now_time:
        return Outcome.EXPIRED
    return Outcome.SETTLED if micros <= claim.reserved else Outcome.EXCEEDS_RESERVATION


def _read(row: Row) -> Claim:
    claim_id, item, user, state, *rest = row
    return Claim(claim_id, item, user, STATES[state], *rest)


def _find(connection: sqlite3.Connection, claim_id: str) -> Claim | None:
    statement = f"SELECT {_CLAIM} FROM claims WHERE claim_id = ?"  # noqa: S608
    row = connection.execute(statement, (claim_id,)).fetchone()
    return None if row is None else _read(row)


def _barring(connection: sqlite3.Connection, ask: Ask) -> str:
    """The first item that the user holds and that bars the claim; "": none does."""
    if not (ask.barred and ask.user):
        return ""
    rows = connection.execute(
        "SELECT item FROM claims WHERE user = ? AND state = 0 AND expire_time > ?"
        " ORDER BY claim_time, claim_id",
        (ask.user, ask.now_time),
    )
    return next((item for (item,) in rows if item in ask.barred), "")


def _insert(connection: sqlite3.Connection, ask: Ask) -> None:
    accounts = json.dumps([charge.account for charge in ask.charges])
    first = (ask.claim_id, ask.item, ask.user, _RESERVED, ask.micros, 0, ask.now_time)
    connection.execute(
        "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*first, ask.expire_time, 0, "", accounts),
    )


def _drawn(connection: sqlite3.Connection, ask: Ask) -> Iterator[tuple[str, str, int]]:
    """What the claim takes of which expectation: its name, the account that holds it, micros."""
    accounts = {charge.account for charge in ask.charges}
    for name in ask.expectations:
        row = connection.execute(
            "SELECT account, amount FROM expectations WHERE name = ?", (name,)
        ).fetchone()
        if row is not None and row[0] in accounts:
            yield name, row[0], min(row[1], ask.micros)


def _account(connection: sqlite3.Connection, name: str) -> Account:
    row = connection.execute(
        "SELECT claims, reserved, settled, expected FROM accounts WHERE name = ?", (name,)
    ).fetchone()
    return Account() if row is None else Account(*row)


def _accounts_of(connection: sqlite3.Connection, claim_id: str) -> list[str]:
    statement = "SELECT accounts FROM claims WHERE claim_id = ?"
    ((accounts,),) = connection.execute(statement, (claim_id,)).fetchall()
    names: list[str] = json.loads(accounts)
    return names


def _write_accounts(connection: sqlite3.Connection, accounts: dict[str, Account]) -> None:
    connection.executemany(
        "INSERT INTO accounts VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (name) DO UPDATE SET"
        " claims = excluded.claims, reserved = excluded.reserved,"
        " settled = excluded.settled, expected = excluded.expected",
        [
            (name, one.claims, one.reserved, one.settled, one.expected)
            for name, one in accounts.items()
        ],
    )


def _share(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Note that these accounts changed, each with a version of its own."""
    connection.executemany(
        "UPDATE accounts SET version ="
        " (SELECT coalesce(max(version), 0) + 1 FROM accounts WHERE version > 0) WHERE name = ?",
        [(name,) for name in names],
    )


def _add(
    connection: sqlite3.Connection,
    name: str,
    claims: int = 0,
    reserved: int = 0,
    settled: int = 0,
    expected: int = 0,
) -> None:
    """Change an account that is there; a shared one gets a new version."""
    connection.execute(
        "UPDATE accounts SET claims = claims + ?, reserved = reserved + ?, settled = settled + ?,"
        " expected = expected + ?, version = iif(version = 0, 0,"
        " (SELECT max(version) + 1 FROM accounts WHERE version > 0)) WHERE name = ?",
        (claims, reserved, settled, expected, name),
    )


def _expire(connection: sqlite3.Connection, now_time: int, limit: int) -> int:
    """Free at most `limit` claims that are due, and all expectations that are."""
    rows = connection.execute(
        "SELECT claim_id, reserved, accounts FROM claims"
        " WHERE state = 0 AND expire_time <= ? ORDER BY expire_time LIMIT ?",
        (now_time, limit),
    ).fetchall()
    for claim_id, reserved, accounts in rows:
        for name in json.loads(accounts):
            _add(connection, name, claims=-1, reserved=-reserved)
        statement = "UPDATE claims SET state = ? WHERE claim_id = ?"
        connection.execute(statement, (_EXPIRED, claim_id))
    return len(rows) + _release(connection, "expire_time <= ?", now_time)


def _release(connection: sqlite3.Connection, which: str, value: object) -> int:
    rows = connection.execute(
        f"SELECT name, account, amount FROM expectations WHERE {which}",  # noqa: S608  # ours
        (value,),
    ).fetchall()
    for name, account, amount in rows:
        _add(connection, account, expected=-amount)
        connection.execute("DELETE FROM expectations WHERE name = ?", (name,))
    return len(rows)

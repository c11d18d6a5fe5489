"""Play scripted conversations against the chat that serves, and check every answer.

    python -m offline converse --home var/demo offline/texts/conversations/own_*.yaml

The champion of the home answers, through the same engine as the server's, with the clock at the
end of its data; what is kept of the conversations stays in memory. `--user` is who talks. The last
line is one JSON object of figures; the exit status is 1 when an answer named what is on no card.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from feature_store.bundle import open_bundle
from feature_store.errors import StoreError
from feature_store.ids import Pseudonymizer, load_key
from feature_store.pointer import read_pointer
from feature_store.state import state_key
from feature_store.store import MemoryStore, open_store
from offline.chat.causes import cause_of
from offline.chat.scripts import NO_CARDS, Played, Script, pair_fault, play, read_scripts
from offline.errors import SourceError
from offline.home import Home
from offline.progress import Progress
from online.chat.conversing import Chat
from online.chat.facts import open_vocabulary
from online.chat.memory import Memory
from online.engine import Engine
from online.snapshot import open_snapshot
from online.types import Request

SCRIPTS: Final = Path(__file__).parent / "texts" / "conversations"
TUNING: Final = ("own", "checking", "further")
"""The conversations that may be looked at."""

NUM_WARM_UPS: Final = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m offline converse`."""
    parser.add_argument(
        "scripts", type=Path, nargs="*", help="files (default: those that may be looked at)"
    )
    parser.add_argument(
        "--home", type=Path, default=Path("var/demo"), help="folder (default: %(default)s)"
    )
    parser.add_argument("--user", default="718", help="who talks (default: %(default)s)")
    parser.add_argument("--currency", default="USD", help="of the prices (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="figures only, no single faults")


def run(args: argparse.Namespace) -> int:
    """Play all conversations, print the faults and the figures."""
    paths = args.scripts or [
        path for half in TUNING for path in sorted(SCRIPTS.glob(f"{half}_*.yaml"))
    ]
    scripts = [script for path in paths for script in read_scripts(path)]
    played = play_all(Home.at(args.home), scripts, args.user, args.currency, Progress())
    console = Console()
    if not args.quiet:
        _print_faults(played, console)
    figures = figures_of(played)
    print(json.dumps(figures))
    return int(bool(figures["untrue_replies"]))


def play_all(
    home: Home, scripts: Sequence[Script], user: str, currency: str, progress: Progress
) -> list[list[Played]]:
    """Each conversation with its answers, by the champion of a home.

    Raises SourceError when the champion has no models of language.
    """
    bundle = open_bundle(read_pointer(home.path).directory, verify=False)
    snapshot, vocabulary = open_snapshot(bundle), open_vocabulary(bundle)
    if snapshot.understander is None or vocabulary is None:
        raise SourceError(f"{bundle.directory} has no models of language; train again")
    pseudonym = Pseudonymizer(load_key(home.path)).digest(user)
    store = _with_state(home, pseudonym)
    chat = Chat(Engine(store, snapshot), Memory(store), currency)
    request = Request(bundle.horizon_time, user=pseudonym)
    played = []
    with progress.task("Conversations", len(scripts)) as advance:
        for script in scripts:
            played.append(play(chat, script, request, vocabulary))
            advance(1)
    return played


def _with_state(home: Home, pseudonym: bytes) -> MemoryStore:
    """A store in memory with what the home knows of one user."""
    store, key = MemoryStore(), state_key(pseudonym)
    try:
        kept = open_store(home.store)
        state = kept.get_many([key])[0]
        kept.close()
    except StoreError as error:
        raise SourceError(f"the store of {home.path} cannot be read: {error}") from error
    if state is not None:
        store.put_many([(key, state)])
    return store


def figures_of(played: Sequence[Sequence[Played]]) -> dict[str, Any]:
    """Counts and shares over all turns; `pairs_differ` is the share of the pairs.

    `constraints_satisfied` counts it as a fault if there should be cards and there are none,
    `constraints_broken_by_no_card` looks at the cards alone.
    """
    turns = [one for conversation in played for one in conversation]
    with_cards = [one for one in turns if one.line.cards]
    faults = Counter(rule for one in turns for rule in one.faults)
    pairs = _pairs(played)
    causes = Counter(
        found[0]
        for conversation in played
        for place in range(len(conversation))
        if (found := cause_of(conversation, place))
    )
    return {
        "conversations": len(played),
        "turns": len(turns),
        "constraints_satisfied": _share(len(turns) - faults["cards"], len(turns)),
        "constraints_broken_by_no_card": _share(
            sum(one.faults.get("cards", NO_CARDS) == NO_CARDS for one in turns), len(turns)
        ),
        "constraints_satisfied_where_set": _share(
            sum("cards" not in one.faults for one in with_cards), len(with_cards)
        ),
        "replies_as_expected": _share(len(turns) - faults["reply"], len(turns)),
        "escalations_as_expected": _share(len(turns) - faults["escalates"], len(turns)),
        "no_upsell_where_none_may_be": _share(len(turns) - faults["upsells"], len(turns)),
        "intents_as_expected": _share(len(turns) - faults["intent"], len(turns)),
        "untrue_replies": faults["truth"],
        "pairs": len(pairs),
        "pairs_differ": _share(sum(not fault for fault in pairs), len(pairs)),
        "causes": dict(causes.most_common()),
        "turn_p99_ms": _p99([one.elapsed_ms for one in turns]),
        "turn_busy_p99_ms": _p99([one.busy_ms for one in turns]),
    }


def _p99(times_ms: Sequence[float]) -> float:
    """The time that 99 of 100 turns do not exceed; the first ten turns warm up."""
    counted = times_ms[NUM_WARM_UPS:] or times_ms
    return round(float(np.percentile(counted, 99)), 2)


def _pairs(played: Sequence[Sequence[Played]]) -> list[str]:
    """What is wrong with each pair of conversations."""
    by_name = {conversation[0].script.name: conversation for conversation in played}
    return [
        pair_fault(conversation, by_name[pair])
        for name, conversation in by_name.items()
        if (pair := conversation[0].script.pair) in by_name and name < pair
    ]


def _share(num: int, total: int) -> float:
    return round(num / total, 4) if total else 1.0


def _print_faults(played: Sequence[Sequence[Played]], console: Console) -> None:
    """The turns with a fault by cause, then the pairs that are answered alike."""
    table = Table(title="What is not as it should be", title_justify="left", title_style="bold")
    for title in ("cause", "conversation", "turn", "shopper", "about", "understood"):
        table.add_column(title, overflow="fold")
    rows = []
    for conversation in played:
        for place, one in enumerate(conversation):
            if found := cause_of(conversation, place):
                name, number = one.script.name, str(place + 1)
                rows.append((found[0], name, number, one.line.shopper, found[1], _read(one)))
    for row in sorted(rows):
        table.add_row(*row)
    for fault in filter(None, _pairs(played)):
        table.add_row("pair", "", "", "", fault, "")
    console.print(table)


def _read(one: Played) -> str:
    """What was understood, and what is wanted after it."""
    understood = one.turn.understood
    if understood is None:
        return ""
    slots = ", ".join(f"{slot.kind}={slot.text}" for slot in understood.slots)
    wishes = ", ".join(f"{wish.relation} {wish.text}" for wish in one.turn.dialogue.wishes)
    return f"{understood.intent} {understood.confidence:.2f} [{slots}] {wishes}"

"""`make bench-search`: do searches on the demo shop find the right category? One JSON line a set.

Queries are what the tables in `offline/texts` say that shoppers call the shop's categories, in
English and Chinese; right are the products of all categories that a name stands for. The names are
known to the search that serves, so each set is asked again without names, as a shop without them
would be searched: by the words of the catalogue and by meaning alone. Misspelt sets have a slip in
each query. `foreign` are searches for what the shop does not sell, and `nothing_found` is right
there.

`share_of_ten`: the share of the first ten products that are right (of as many as there are, if
fewer), with a 95% interval over queries; `first_right`: how often the first is; `degraded`: how
often a stage was left out; `p50_ms`: the time of a call. Nobody is known to ask, so that no taste
helps or harms.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from feature_store.bundle import open_bundle
from feature_store.language.normal import is_han
from feature_store.pointer import read_pointer
from feature_store.schema import CATEGORY_SEPARATOR
from feature_store.store import MemoryStore
from offline.chat.texts import TEXTS
from offline.home import Home
from offline.serving import serving
from online.client import Client
from online.engine import Engine
from online.search.meaning import SearchMeaning
from online.search.reading import QueryReader
from online.snapshot import Snapshot, open_snapshot
from online.types import Request

PLACEMENT: Final = "search_empty"
NUM_SHOWN: Final = 10
MIN_SOLD: Final = 5
MIN_MISSPELT: Final = 5
MIN_MISSPELT_HAN: Final = 3
SLIPS: Final = "的是一了在有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动"
"""Common characters, one of which takes the place of the right one."""

TYPE: Final = "TYPE"
FOREIGN: Final = (
    *(
        "laptop charger",
        "car insurance",
        "running shoes size 42",
        "hotel in paris",
        "guitar strings",
    ),
    *("mortgage calculator", "winter tyres", "wedding dress", "football tickets", "printer driver"),
    *("asdf qwer", "xyzzy plugh", "lorem ipsum", "zzzz", "error 404"),
    *("笔记本电脑充电器", "汽车保险", "跑步鞋四十二码", "巴黎的酒店", "吉他弦"),
    *("房贷计算器", "冬季轮胎", "婚纱", "足球门票", "打印机驱动"),
)

Answer = Callable[[str], tuple[list[str], bool, bool]]
"""The categories of what is shown for a query, whether it is said that nothing was found, and
whether a stage was left out."""


@dataclass(frozen=True, slots=True)
class Case:
    """A query, and the categories that are right."""

    query: str
    right: frozenset[str]
    num_sold: int

    def share(self, shown: Sequence[str]) -> float:
        """The share of what is shown first that is right."""
        wanted = min(NUM_SHOWN, self.num_sold)
        return sum(path in self.right for path in shown[:wanted]) / wanted


def cases(snapshot: Snapshot) -> list[Case]:
    """A case for each name of enough products that are sold."""
    catalog = snapshot.catalog
    sold: defaultdict[str, int] = defaultdict(int)
    for place in np.flatnonzero(catalog.available[: len(catalog)]).tolist():
        sold[catalog.category[place]] += 1
    right: defaultdict[str, set[str]] = defaultdict(set)
    for table in sorted(TEXTS.glob("catalogue_*.tsv")):
        for line in table.read_text().splitlines():
            if line.count("\t") == 2:
                department, name, called = line.split("\t")
                paths = [path for path in sold if _is_of(path, department, name)]
                for one in called.split("|"):
                    right[one.strip()].update(paths)
    found = (
        Case(q, frozenset(paths), sum(sold[path] for path in paths)) for q, paths in right.items()
    )
    return [case for case in found if case.num_sold >= MIN_SOLD]


def _is_of(path: str, department: str, name: str) -> bool:
    levels = path.split(CATEGORY_SEPARATOR)
    return levels[-1] == name if department == TYPE else levels[:2] == [department, name]


def misspelt(case: Case, dice: np.random.Generator) -> Case | None:
    """The case with a slip in its longest word, never in its first letter.

    A letter is left out or swapped with the next; in Chinese another character stands for one.
    None for a query that is too short, or stays as it was.
    """
    query = case.query
    if is_han(query):
        if len(query) < MIN_MISSPELT_HAN:
            return None
        place = int(dice.integers(1, len(query)))
        other = SLIPS[int(dice.integers(len(SLIPS)))]
        return replace(case, query=query[:place] + other + query[place + 1 :])
    word = max(query.split(), key=len)
    if len(word) < MIN_MISSPELT:
        return None
    place = int(dice.integers(1, len(word) - 1))
    swapped = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    changed = word[:place] + word[place + 1 :] if dice.random() < 0.5 else swapped
    return None if changed == word else replace(case, query=query.replace(word, changed, 1))


def judge(name: str, asked: Sequence[Case], answer: Answer) -> None:
    """Ask all and print one line."""
    shares, firsts, nothing, degraded, times_ms = [], [], [], [], []
    for case in asked:
        started_s = perf_counter()
        shown, is_nothing, is_degraded = answer(case.query)
        times_ms.append(1_000 * (perf_counter() - started_s))
        nothing.append(is_nothing)
        degraded.append(is_degraded)
        if case.right:
            shares.append(case.share(shown))
            firsts.append(shown[0] in case.right)
    line: dict[str, float | str | list[float]] = {"set": name, "num": len(asked)}
    if shares:
        error = 1.96 * float(np.std(shares)) / np.sqrt(len(shares))
        mean = float(np.mean(shares))
        line["share_of_ten"] = round(mean, 3)
        line["interval"] = [round(mean - error, 3), round(mean + error, 3)]
        line["first_right"] = round(float(np.mean(firsts)), 3)
    line["nothing_found"] = round(float(np.mean(nothing)), 3)
    line["degraded"] = round(float(np.mean(degraded)), 3)
    line["p50_ms"] = round(float(np.median(times_ms)), 1)
    print(json.dumps(line, ensure_ascii=False), flush=True)


def over_grpc(client: Client) -> Answer:
    """Asks a server as a page would."""

    def ask(query: str) -> tuple[list[str], bool, bool]:
        answer = client.recommend(placement=PLACEMENT, page_size=NUM_SHOWN, query=query)
        shown = answer.response.items
        return (
            [item.display.category for item in shown],
            all("unmatched_query" in item.reason.parameters for item in shown),
            bool(answer.response.degraded),
        )

    return ask


def in_process(snapshot: Snapshot, time: int) -> Answer:
    """Asks an engine here."""
    engine = Engine(MemoryStore(), snapshot)

    def ask(query: str) -> tuple[list[str], bool, bool]:
        request = Request(time, PLACEMENT, page_size=NUM_SHOWN, query=query)
        slate = engine.recommend(request)
        items = slate.items
        return (
            [snapshot.catalog.category[item.index] for item in items],
            all("unmatched_query" in item.reason.parameters for item in items),
            bool(slate.degraded),
        )

    return ask


def without_names(snapshot: Snapshot) -> Snapshot:
    """The snapshot as of a shop that has no names for its categories."""
    search = snapshot.product_search
    if search is None or not isinstance(search.meaning, SearchMeaning):
        raise SystemExit("the bundle has no vectors of texts; make demo")
    reader = QueryReader(search.words.reader.terms)
    return replace(
        snapshot,
        product_search=replace(
            search,
            words=replace(search.words, reader=reader),
            meaning=replace(search.meaning, reader=reader),
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the champion of a home."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--home", type=Path, default=Path("var/demo"), help="after make demo")
    parser.add_argument("--queries", type=int, default=300, help="of each language")
    options = parser.parse_args(arguments)
    bundle = open_bundle(read_pointer(options.home).directory)
    snapshot, dice = open_snapshot(bundle), np.random.default_rng(7)
    every = cases(snapshot)
    chosen = {
        language: [some[n] for n in dice.permutation(len(some))[: options.queries]]
        for language, some in (
            ("en", [case for case in every if not is_han(case.query)]),
            ("zh", [case for case in every if is_han(case.query)]),
        )
    }
    sets = dict(chosen)
    for language, some in chosen.items():
        slipped = [misspelt(case, dice) for case in some]
        sets[f"{language}_misspelt"] = [case for case in slipped if case is not None]
    sets["foreign"] = [Case(query, frozenset(), 0) for query in FOREIGN]
    with serving(Home.at(options.home)) as address, Client(address) as client:
        for name, asked in sets.items():
            judge(name, asked, over_grpc(client))
    alone = in_process(without_names(snapshot), bundle.horizon_time)
    for name, asked in sets.items():
        judge(f"{name}_without_names", asked, alone)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Who may import whom, and what the serving process may load."""

import sys
from pathlib import Path

import grimp

from tests.architecture.tree import BIN, ROOT, files, run

# The engine, what it is made from, what goes in and comes out (with the token that comes back), and
# what a shop writes for it, and what an export freezes of coupons: never its stages. The demo and
# the terminal are also clients of a server that runs.
ENTRIES = {
    "online.chat.conversing",
    "online.chat.facts",
    "online.chat.memory",
    "online.chat.truth",
    "online.chat.turn",
    "online.chat.wishes",
    "online.client",
    "online.coupons.audience",
    "online.coupons.frozen",
    "online.engine",
    "online.errors",
    "online.placements",
    "online.explain.reasons",
    "online.feedback.attribution",
    "online.offering.expression",
    "online.offering.rules",
    "online.snapshot",
    "online.talking",
    "online.types",
}
HEAVY = ("mlflow", "pandas", "polars", "torch")
LOADED = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
print(sorted(set(sys.argv[1].split(",")) & set(sys.modules)))
"""


def module_name(path: Path) -> str:
    """`online/store/memory.py` as `online.store.memory`."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def test_import_rules_hold() -> None:
    checked = run(BIN / "lint-imports")
    assert checked.returncode == 0, checked.stdout


def test_offline_enters_online_through_its_engine() -> None:
    graph = grimp.build_graph("offline", "online", cache_dir=None)
    entered = {
        (importer, module)
        for module in graph.modules
        if module.startswith("online") and module not in ENTRIES
        for importer in graph.find_modules_that_directly_import(module)
        if importer.startswith("offline")
    }
    assert not entered


def test_the_serving_process_loads_nothing_that_learns() -> None:
    modules = [module_name(path) for path in files("online/*.py")]
    assert modules
    loaded = run(sys.executable, "-c", LOADED, ",".join(HEAVY), *modules)
    assert loaded.stdout.splitlines()[-1] == "[]", loaded.stdout


def test_proto_does_not_shadow_another_package() -> None:
    assert not (ROOT / "proto" / "__init__.py").exists()

"""Nothing after the cut may change what is learned before it: a planted future leak is caught.

Two shops are equal up to the cut and opposite afterwards. Whatever is learned up to the cut
must be equal, to the byte; a run that looks further must differ, or this test could not fail.
"""

from pathlib import Path

import pytest

from aisle.bundle.v1 import bundle_pb2
from feature_store.store import MemoryStore
from offline.build import build_bundle
from offline.dataset import load_dataset
from offline.materialize import materialize
from offline.progress import QUIET
from tests.offline.shops import CUT_TIME, RECIPE, ingest, with_future, write_csv
from tests.worlds import HORIZON_TIME, KEY, draw_purchases


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Tables of the shop, and of the one that turns after the cut."""
    tables = []
    for name, purchases in (("usual", draw_purchases()), ("turned", with_future(draw_purchases()))):
        folder = tmp_path_factory.mktemp(name)
        (folder / "home").mkdir()
        (folder / "home" / "pseudonym.key").write_text(KEY.hex())
        write_csv(folder / "csv", purchases)
        tables.append(ingest(folder / "csv", folder / "home"))
    return tables[0], tables[1]


def learned(tables: Path, until: int, bundles: Path) -> str:
    """The id of what is learned, which is a digest of all its files."""
    dataset = load_dataset(tables, RECIPE.data, until)
    return build_bundle(dataset, RECIPE, bundles, bundle_pb2.ROLE_JUDGED, "cpu", QUIET).bundle_id


def states(tables: Path, until: int) -> dict[bytes, bytes]:
    store = MemoryStore()
    materialize(tables, store, until, QUIET)
    return dict(store.scan(b""))


def test_the_bundle_knows_nothing_after_the_cut(twins: tuple[Path, Path], tmp_path: Path) -> None:
    usual, turned = (learned(tables, CUT_TIME, tmp_path) for tables in twins)
    assert usual == turned


def test_the_states_know_nothing_after_the_cut(twins: tuple[Path, Path]) -> None:
    usual, turned = (states(tables, CUT_TIME) for tables in twins)
    assert usual == turned


def test_a_planted_leak_is_caught(twins: tuple[Path, Path], tmp_path: Path) -> None:
    day_later = CUT_TIME + (HORIZON_TIME - CUT_TIME) // 7
    assert learned(twins[0], day_later, tmp_path) != learned(twins[1], day_later, tmp_path)
    assert states(twins[0], day_later) != states(twins[1], day_later)

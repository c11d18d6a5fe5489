"""Each benchmark on a small data set made here: the lines it prints, and known answers."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from feature_store.schema import MICROSECONDS_PER_DAY
from offline.__main__ import main
from offline.benchmark import baskets, cold_items, throughput, visits
from offline.benchmark.cold_items import affinity, hide_items, histories_of, train
from offline.benchmark.completejourney import future
from offline.benchmark.plain_loop import PlainConfig
from offline.benchmark.ranking import best_items, binary_matrix, hold_out, recall_and_ndcg
from offline.benchmark.report import Line
from offline.benchmark.setting import Setting
from offline.dataset import load_dataset
from offline.models.item_to_item import baskets_of
from offline.progress import QUIET
from online.stages import neighbours
from tests.offline.shops import CUT_TIME, RECIPE, ingest, usual_tables
from tests.worlds import HORIZON_TIME, START_TIME, is_even

Record = dict[str, float | str | list[float] | None]


def lines_of(
    capsys: pytest.CaptureFixture[str], name: str, data: Path, *words: str
) -> dict[str, Record]:
    """What the benchmark prints, by model."""
    capsys.readouterr()
    assert main(["benchmark", name, "--data", str(data), "--device", "cpu", "--quiet", *words]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    records = [json.loads(line) for line in printed.out.splitlines()]
    return {record["model"]: record for record in records}


def check(record: Record, measure: str) -> float:
    """A line has the measure inside its interval, and what it took."""
    value, interval = record[measure], record[f"{measure}_interval"]
    assert isinstance(value, float)
    assert isinstance(interval, list)
    assert interval[0] <= value <= interval[1]
    assert {"train_s", "examples_per_s"} <= record.keys()
    return value


def test_measures_by_hand() -> None:
    known = sparse.csr_matrix(np.array([[1, 0, 0, 0], [0, 0, 0, 1]], np.float32))
    hidden = sparse.csr_matrix(np.array([[0, 1, 1, 0], [1, 0, 0, 0]], np.float32))
    best = best_items(np.array([[9, 1, 3, 2], [1, 3, 2, 9]], np.float32), known, 2)
    assert best.tolist() == [[2, 3], [1, 2]]
    recall, ndcg = recall_and_ndcg(best, hidden)
    assert recall.tolist() == [0.5, 0]
    np.testing.assert_allclose(ndcg, [1 / (1 + 1 / np.log2(3)), 0])


def test_hold_out_hides_a_tenth_of_each_user() -> None:
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((30, 50)) < 0.5)
    matrix = binary_matrix(users, items, (30, 50))
    split = hold_out(matrix, 0.1, 0)
    assert split.known.multiply(split.hidden).nnz == 0
    assert (split.known + split.hidden != matrix).nnz == 0
    hidden = np.diff(split.hidden.indptr)
    np.testing.assert_array_equal(hidden, np.rint(0.1 * np.diff(matrix.indptr)))


def test_a_line_leaves_out_users_whom_it_does_not_concern() -> None:
    line = json.loads(Line("one", {"recall_at_20": np.array([1.0, np.nan, 0.0])}, 1.25).to_json())
    assert line["recall_at_20"] == 0.5
    assert line["examples_per_s"] is None
    assert line["train_s"] == 1.2


@pytest.fixture
def gowalla(tmp_path: Path) -> Path:
    """Even users like even items; half of what each has is for training."""
    rng = np.random.default_rng(0)
    same = (np.arange(60)[:, None] - np.arange(40)) % 2 == 0
    chance = rng.random(same.shape)
    for part, mask in (("train", chance < 0.5), ("test", (chance > 0.5) & (chance < 0.8))):
        user, item = np.nonzero(same & mask)
        pl.DataFrame({"user": user, "item": item}).write_parquet(
            tmp_path / f"gowalla_{part}.parquet"
        )
    return tmp_path


@pytest.mark.parametrize("period", ["test", "validation"])
def test_gowalla(gowalla: Path, capsys: pytest.CaptureFixture[str], period: str) -> None:
    lines = lines_of(capsys, "gowalla", gowalla, "--period", period)
    assert list(lines) == ["graph_filter", "two_tower", "blend", "blend_above_graph_filter"]
    for name in ("graph_filter", "two_tower", "blend"):
        assert check(lines[name], "recall_at_20") > 0.95
        check(lines[name], "ndcg_at_20")
    assert lines["two_tower"]["examples_per_s"]


@pytest.fixture
def diginetica(tmp_path: Path) -> Path:
    """After item i comes i + 1."""
    rng = np.random.default_rng(2)
    rows = [
        [1 + int(first + k) % 50 for k in range(size)]
        for first, size in zip(rng.integers(0, 50, 400), rng.integers(2, 6, 400), strict=True)
    ]
    train = pl.DataFrame({"session": range(len(rows)), "items": rows})
    train.write_parquet(tmp_path / "diginetica_train.parquet")
    asked = [[1 + item, 1 + (item + 1) % 50] for item in range(50)]
    targets = [1 + (item + 2) % 50 for item in range(50)]
    test = pl.DataFrame({"prefix": asked, "target": targets})
    test.write_parquet(tmp_path / "diginetica_test.parquet")
    return tmp_path


@pytest.mark.parametrize("period", ["test", "validation"])
def test_diginetica(diginetica: Path, capsys: pytest.CaptureFixture[str], period: str) -> None:
    lines = lines_of(capsys, "diginetica", diginetica, "--period", period)
    assert list(lines) == ["transitions", "session_knn", "session_network", "blend"]
    for name in ("transitions", "session_knn", "blend"):
        assert check(lines[name], "recall_at_20") > 0.95
        assert check(lines[name], "mrr_at_20") > 0.2


@pytest.fixture
def tafeng(tmp_path: Path) -> Path:
    """Even users buy even items, each two favourites in every basket."""
    rng = np.random.default_rng(4)
    rows = []
    for user in range(90):
        liked = np.arange(user % 2, 40, 2)
        favourites = rng.choice(liked, 2, replace=False)
        for basket in range(6):
            items = {*favourites.tolist(), *rng.choice(liked, 2).tolist()}
            rows += [(100 + user, basket, item, basket == 5) for item in sorted(items)]
    names = ["user", "basket", "item", "is_test"]
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(
        tmp_path / "tafeng_baskets.parquet"
    )
    return tmp_path


@pytest.mark.parametrize("period", ["test", "validation"])
def test_tafeng(tafeng: Path, capsys: pytest.CaptureFixture[str], period: str) -> None:
    lines = lines_of(capsys, "tafeng", tafeng, "--period", period)
    assert list(lines) == ["popularity", "own_frequency", "linear", "tifu_knn", "blend"]
    measured = {name: check(record, "recall_at_10") for name, record in lines.items()}
    assert measured["blend"] > 0.5 > measured["popularity"]


def test_tafeng_refuses_a_test_that_is_not_last(
    tafeng: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tafeng / "tafeng_baskets.parquet"
    pl.read_parquet(path).with_columns(is_test=pl.lit(False)).write_parquet(path)
    assert main(["benchmark", "tafeng", "--data", str(tafeng), "--quiet"]) == 1
    assert "is_test" in capsys.readouterr().err


def test_data_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "gowalla", "--data", str(tmp_path), "--quiet"]) == 2
    assert "gowalla_train.parquet" in capsys.readouterr().err


def test_throughput(
    gowalla: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "PLAIN", PlainConfig(num_epochs=6, learning_rate=0.015))
    lines = lines_of(capsys, "throughput", gowalla)
    assert list(lines) == ["plain_loop", "two_tower", "throughput"]
    both = lines["throughput"]
    assert both["recall_at_20"] == lines["two_tower"]["recall_at_20"]
    assert both["plain_recall_at_20"] == lines["plain_loop"]["recall_at_20"]
    assert both["recall_at_20"] >= both["plain_recall_at_20"]  # type: ignore[operator]
    rates = lines["two_tower"]["examples_per_s"], lines["plain_loop"]["examples_per_s"]
    assert (both["examples_per_s"], both["plain_examples_per_s"]) == rates
    assert both["ratio"] == pytest.approx(rates[0] / rates[1], rel=0.02)  # type: ignore[operator]
    assert both["cpu_ratio"]
    assert both["time_to_recall_ratio"]


def test_complete_journey(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_items, "COLD_SHARE", 0.3)
    tables = usual_tables(tmp_path)
    lines = lines_of(capsys, "completejourney", tables)
    engine = ("popularity", "own_frequency", "own_frequency_half_life", "blend")
    for name in engine:
        for measure in ("recall_at_20_all", "ndcg_at_20_all"):
            check(lines[name], measure)
    assert lines["blend"]["recall_at_20_all"] > lines["popularity"]["recall_at_20_all"]  # type: ignore[operator]
    above = lines["blend_above_own_frequency_half_life"]
    assert "recall_at_20_all_difference" in above
    assert check(lines["cold_items"], "recall_at_100") > 0
    check(lines["category_affinity"], "recall_at_100")
    pooled = "cold_items_above_category_affinity"
    draws = [lines[f"{pooled}_draw_{number}"] for number in (1, 2, 3, 4)]
    for record in (lines[pooled], *draws):
        check(record, "recall_at_100_difference")


def test_draws_are_pooled_by_user() -> None:
    first, second = (
        Line("cold_items", {"recall_at_100": np.array(values)}, seconds, rate)
        for values, seconds, rate in (([0.5, np.nan, np.nan], 2.0, 10.0), ([1, 0, np.nan], 4, 20))
    )
    both = cold_items.pooled([first, second])
    np.testing.assert_array_equal(both.values["recall_at_100"], [0.75, 0, np.nan])
    assert (both.train_s, both.examples_per_s) == (3.0, 15.0)


def test_cold_items_are_out_of_the_past_and_found(tmp_path: Path) -> None:
    tables = usual_tables(tmp_path)
    past = load_dataset(tables, RECIPE.data, CUT_TIME)
    later = future(tables, RECIPE, past, HORIZON_TIME)
    task = hide_items(past, later, seed=1)
    assert task.is_cold.any()
    assert not task.is_cold[task.past.purchases.item].any()
    assert task.is_cold[task.bought.indices].all()
    setting = Setting(tables, "test", "cpu", QUIET)
    towers, _ = train(task.past, setting)
    scores = towers.score(histories_of(task.past))
    even_item = np.array([is_even(item) for item in past.items["item"].to_list()])
    for scored in (scores, affinity(task.past)(np.arange(len(past.users)))):
        cold_even = scored[:, task.is_cold & even_item].mean(axis=1)
        cold_odd = scored[:, task.is_cold & ~even_item].mean(axis=1)
        liked = np.zeros(len(past.users), bool)
        liked[task.past.purchases.user] = even_item[task.past.purchases.item]
        assert np.mean((cold_even > cold_odd) == liked) > 0.9


def test_visits_of_nobody_known(diginetica: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After item i comes i + 1, which sources that know no order cannot tell from i - 1."""
    lines = lines_of(capsys, "visits", diginetica)
    assert len(lines) == 3 * len(visits.PLACEMENTS)
    for placement in visits.PLACEMENTS:
        for name in ("with", "without"):
            check(lines[f"{placement}_{name}"], "recall_at_20")
        least = 0.0 if placement == "product_similar" else 0.05
        assert check(lines[f"{placement}_gain"], "mrr_at_20_difference") > least


@pytest.fixture
def paired_tables(tmp_path: Path) -> Path:
    """Bread is in every basket; of the others two, whose numbers follow each other, go together."""
    rng = np.random.default_rng(6)
    rows = ["event_time,user,kind,item,quantity,price,basket"]
    for number in range(900):
        pair = 2 * int(rng.integers(1, 20))
        time = START_TIME + int(rng.random() * 90 * MICROSECONDS_PER_DAY)
        for item in (0, pair, pair + 1):
            fields = (time, f"u{number % 30}", "purchase", f"p{item:02}", 1, 1, number)
            rows.append(",".join(map(str, fields)))
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    items = [f"p{item:02},Thing {item}" for item in range(42)]
    (folder / "products.csv").write_text("\n".join(["item,title", *items]) + "\n")
    return ingest(folder, tmp_path / "home")


@pytest.mark.parametrize("period", ["test", "validation"])
def test_baskets(paired_tables: Path, capsys: pytest.CaptureFixture[str], period: str) -> None:
    lines = lines_of(capsys, "baskets", paired_tables, "--period", period)
    assert list(lines) == [
        *("popularity", "co_occurrence", "lift", "bought_with"),
        *(f"bought_with_above_{name}" for name in ("popularity", "co_occurrence", "lift")),
    ]
    measure = "recall_at_10_no_best_seller"
    found = {name: check(lines[name], measure) for name in list(lines)[:4]}
    assert found["bought_with"] == found["lift"] == 1.0 > found["co_occurrence"]
    assert found["popularity"] < 0.5
    shares = {name: lines[name]["best_seller_share"] for name in found}
    assert shares["bought_with"] == 0.0 < shares["co_occurrence"]  # type: ignore[operator]
    check(lines["bought_with_above_popularity"], f"{measure}_difference")


def test_one_item_of_each_basket_is_hidden(paired_tables: Path) -> None:
    recipe = RECIPE.with_cut(START_TIME + 60 * MICROSECONDS_PER_DAY)
    cut_time = recipe.data.cut_time
    assert cut_time is not None
    past = load_dataset(paired_tables, recipe.data, cut_time)
    later = future(paired_tables, recipe, past, START_TIME + 91 * MICROSECONDS_PER_DAY)
    task = baskets.hide_one(later, past)
    assert len(task.hidden) == len(set(baskets_of(later).tolist()))
    assert (np.diff(task.inside.indptr) >= 2).all()
    assert (baskets.FADING, baskets.MAX_SEEDS) == (neighbours.FADING, neighbours.MAX_SEEDS)
    rows = np.arange(len(task.hidden))
    assert not np.asarray(task.inside[rows, task.hidden]).any()
    for row in rows[:20].tolist():
        weights = np.sort(task.asking[row].data)[::-1]
        np.testing.assert_allclose(weights, 0.85 ** np.arange(len(weights)), rtol=1e-6)


def test_the_two_tower_is_compared_with_the_engine_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(capsys, "twotower", usual_tables(tmp_path))
    assert list(lines) == ["without", "with_two_tower", "two_tower_gain"]
    for name in ("without", "with_two_tower"):
        check(lines[name], "recall_at_20_all")
    check(lines["two_tower_gain"], "recall_at_20_new_difference")

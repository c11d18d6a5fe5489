"""The two-tower on a checkerboard; fast forms against naive ones; resuming, processes, ONNX."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from offline.errors import DeviceError
from offline.models.two_tower import train
from offline.models.two_tower.data import (
    Ragged,
    TrainingData,
    only_ids,
    ragged,
    read_arrays,
    write_arrays,
)
from offline.models.two_tower.export import export_user_tower, inputs_of, run_user_tower
from offline.models.two_tower.features import ItemFacts, describe
from offline.models.two_tower.fitted import FittedTowers, latest
from offline.models.two_tower.loss import Targets, sampled_softmax
from offline.models.two_tower.model import TowerConfig, TwoTower
from offline.models.two_tower.neighbours import with_neighbours
from offline.models.two_tower.sampling import Sampler, SamplingConfig
from offline.models.two_tower.train import TrainConfig, TwoTowerConfig
from offline.progress import QUIET, Progress
from tests.architecture.tree import ROOT

NUM_USERS, NUM_ITEMS = 60, 40
NOBODY_BUYS = (36, 37, 38, 39)
EVEN, ODD = NUM_ITEMS, NUM_ITEMS + 1


def board() -> Ragged:
    """Even users buy even items, odd users odd ones; each has about half of them, shuffled."""
    rng = np.random.default_rng(0)
    same = (np.arange(NUM_USERS)[:, None] - np.arange(NUM_ITEMS)) % 2 == 0
    same[:, NOBODY_BUYS] = False
    users, items = np.nonzero(same & (rng.random(same.shape) < 0.5))
    order = rng.permutation(len(users))
    return ragged(users[order], items[order], NUM_USERS)


def described() -> Ragged:
    """Each item by its id and by whether it is even."""
    items = np.arange(NUM_ITEMS)
    return ragged(np.tile(items, 2), np.concatenate([items, EVEN + items % 2]), NUM_ITEMS)


def data(**parts: Ragged) -> TrainingData:
    return TrainingData(board(), parts.get("catalogue", described()), NUM_ITEMS, **_context(parts))


def _context(parts: dict[str, Ragged]) -> dict[str, Ragged]:
    return {"context": parts["context"]} if "context" in parts else {}


def config(max_steps: int | None = None, **towers: object) -> TwoTowerConfig:
    return TwoTowerConfig(
        TowerConfig(NUM_ITEMS + 2, dim=8, num_positions=4, **towers),  # type: ignore[arg-type]
        SamplingConfig(users_per_step=16, num_uniform=8, ordered=True, anonymous_share=0.3),
        TrainConfig(15, device="cpu", checkpoint_steps=7, max_steps=max_steps),
    )


def share_right(towers: FittedTowers, histories: Ragged, context: Ragged | None = None) -> float:
    """How many of the best ten items are of the user's parity."""
    best = np.argsort(-towers.score(histories, context), axis=1)[:, :10]
    return float(np.mean(best % 2 == (np.arange(len(histories)) % 2)[:, None]))


@pytest.fixture(scope="module")
def attentive() -> FittedTowers:
    return train.fit(data(), config(attention=True), QUIET).towers


@pytest.mark.parametrize("attention", [False, True])
def test_it_learns_the_checkerboard(attention: bool) -> None:
    towers = train.fit(data(), config(attention=attention), QUIET).towers
    assert share_right(towers, board()) > 0.95


def test_items_with_neighbours_learn_the_checkerboard_as_sets() -> None:
    histories = board()
    ones = np.ones(len(histories.ids), np.float32)
    matrix = sparse.csr_matrix((ones, histories.ids, histories.starts), (NUM_USERS, NUM_ITEMS))
    catalogue = with_neighbours(matrix, 3, 0.3)
    assert catalogue.weights is not None
    sums = np.add.reduceat(catalogue.weights, catalogue.starts[:-1])
    bought = np.bincount(histories.ids, minlength=NUM_ITEMS) > 0
    np.testing.assert_allclose(sums[bought], 1, atol=1e-5)
    chosen = TwoTowerConfig(
        TowerConfig(NUM_ITEMS, dim=8),
        SamplingConfig(users_per_step=16, num_uniform=8),
        TrainConfig(15, device="cpu"),
    )
    towers = train.fit(TrainingData(histories, catalogue, NUM_ITEMS), chosen, QUIET).towers
    assert share_right(towers, histories) > 0.95


def test_an_item_that_nobody_bought_is_found_by_what_it_is_like(attentive: FittedTowers) -> None:
    scores = attentive.score(board())[:, NOBODY_BUYS]
    same = np.arange(NUM_USERS)[:, None] % 2 == np.array(NOBODY_BUYS) % 2
    right = np.where(same, scores, np.inf).min(axis=1)
    wrong = np.where(same, -np.inf, scores).max(axis=1)
    assert np.mean(right > wrong) > 0.95


def test_affinity_learns_the_checkerboard_and_finds_what_nobody_bought() -> None:
    towers = train.fit(data(), config(affinity=True), QUIET).towers
    assert share_right(towers, board()) > 0.95
    scores = towers.score(board())[:, NOBODY_BUYS]
    same = np.arange(NUM_USERS)[:, None] % 2 == np.array(NOBODY_BUYS) % 2
    right = np.where(same, scores, np.inf).min(axis=1)
    wrong = np.where(same, -np.inf, scores).max(axis=1)
    assert np.mean(right > wrong) > 0.95


def test_affinities_are_the_sums_over_features_that_they_say_they_are() -> None:
    rng = np.random.default_rng(2)
    catalogue = replace(described(), weights=rng.random(2 * NUM_ITEMS).astype(np.float32))
    histories = replace(board(), weights=rng.random(len(board().ids)).astype(np.float32))
    model = TwoTower(TowerConfig(NUM_ITEMS + 2, dim=8, affinity=True))
    assert model.loyalty is not None
    assert model.appeal is not None
    with torch.no_grad():
        model.loyalty.uniform_()
        model.appeal.uniform_()
    loyalty, appeal = model.loyalty.detach().numpy(), model.appeal.detach().numpy()
    towers = FittedTowers.freeze(model, catalogue, NUM_ITEMS)
    found = towers.score(histories) - towers.embed(histories) @ towers.units.numpy().T
    for user in (0, 7):
        mine = slice(*histories.starts[user : user + 2])
        items, strength = histories.ids[mine], histories.weights[mine]  # type: ignore[index]
        taste = [np.log1p(strength[items % 2 == parity].sum()) for parity in (0, 1)]
        for item in (3, 8):
            weights = catalogue.weights[2 * item : 2 * item + 2]  # type: ignore[index]
            kind = EVEN + item % 2
            liked = loyalty[kind] * taste[item % 2] + appeal[kind]
            expected = weights[0] * appeal[item] + weights[1] * liked
            assert found[user, item] == pytest.approx(model.config.temperature * expected, abs=1e-5)


def test_a_sample_tells_only_of_what_is_not_to_be_found() -> None:
    sampler = Sampler(data(), config().sampling, affinity=True)
    batch = sampler.batch(np.arange(NUM_USERS), np.random.default_rng(0))
    taste = batch.histories.taste
    assert taste is not None
    shown = np.bincount(batch.histories.items.rows.numpy(), minlength=NUM_USERS)
    told = np.expm1(taste.dense(NUM_ITEMS + 2).numpy()).sum(axis=1)
    np.testing.assert_allclose(told, shown, rtol=1e-5)


def test_what_few_known_items_share_is_no_feature() -> None:
    empty = [""] * 6
    facts = ItemFacts(["A", "A", "A", "B", "B", "B"], empty, empty, np.full(6, np.nan, np.float32))
    known = np.array([True, True, True, True, True, False])
    described = describe(facts, 1000, known)
    rows = np.repeat(np.arange(6), np.diff(described.starts))
    assert rows[described.ids >= 6].tolist() == [0, 1, 2]
    assert rows[described.ids < 6].tolist() == [0, 1, 2, 3, 4]


def test_what_is_known_of_a_user_speaks_before_the_first_purchase() -> None:
    context = Ragged(np.arange(NUM_USERS + 1), np.arange(NUM_USERS) % 2)
    towers = train.fit(data(context=context), config(num_context=2), QUIET).towers
    nobody = Ragged(np.zeros(3, np.int64), np.zeros(0, np.int64))
    assert share_right(towers, nobody, Ragged(np.arange(3), np.arange(2))) > 0.9


@pytest.mark.parametrize("has_more", [False, True])
def test_loss_equals_plain_autograd(has_more: bool) -> None:
    torch.manual_seed(0)
    users = torch.randn(10, 4, requires_grad=True)
    items = torch.randn(7, 4, requires_grad=True)
    added = torch.randn(10, 7, requires_grad=has_more)
    inputs = (users, items, *([added] if has_more else []))
    rows, columns = torch.tensor([0, 0, 3, 9]), torch.tensor([1, 2, 3, 4])
    known = (torch.tensor([0, 9]), torch.tensor([5, 0]))
    targets = Targets(rows, columns, torch.full((4,), 0.25), *known, torch.randn(7))
    more = added if has_more else None
    sampled_softmax(users, items, targets, False, 4, more).backward()  # type: ignore[no-untyped-call]
    found = [part.grad for part in inputs]
    for part in inputs:
        part.grad = None
    plain = users @ items.T + (added if has_more else 0)
    corrected = (plain - targets.log_inclusion).index_put(known, torch.tensor(-1e4))
    terms = corrected.logsumexp(1)[rows] - plain[rows, columns]
    (terms * 0.25).sum().backward()  # type: ignore[no-untyped-call]
    for one, part in zip(found, inputs, strict=True):
        torch.testing.assert_close(one, part.grad)


def test_sampled_loss_is_near_the_full_softmax() -> None:
    """With logQ a sample that favours what is popular estimates the sum over all items."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=2000) * 0.5
    share = rng.dirichlet(np.full(2000, 0.3))
    estimates = []
    for _ in range(200):
        drawn = np.concatenate([rng.choice(2000, 300, p=share), rng.integers(0, 2000, 300)])
        candidates = np.unique(drawn)
        inclusion = -np.expm1(-(300 * share[candidates] + 300 / 2000))
        estimates.append(np.sum(np.exp(scores[candidates]) / inclusion))
    assert np.mean(estimates) == pytest.approx(np.exp(scores).sum(), rel=0.02)


def test_nothing_to_be_found_is_known_and_order_is_kept() -> None:
    sampler = Sampler(data(), SamplingConfig(ordered=True, max_targets=3, max_history=4))
    users = np.arange(NUM_USERS)
    batch = sampler.batch(users, np.random.default_rng(5))
    bought = board()
    needed = np.unique(np.concatenate([bought.ids, np.arange(NUM_ITEMS)]))
    assert len(needed) == NUM_ITEMS
    lengths = np.bincount(batch.histories.items.rows.numpy(), minlength=NUM_USERS)
    assert lengths.max() <= 4
    assert np.bincount(batch.targets.rows.numpy()).max() <= 3
    pairs = set(zip(batch.targets.rows.tolist(), batch.targets.columns.tolist(), strict=True))
    excluded = zip(
        batch.targets.excluded_rows.tolist(), batch.targets.excluded_columns.tolist(), strict=True
    )
    assert not pairs & set(excluded)


def test_resumed_equals_uninterrupted_bit_by_bit(tmp_path: Path, attentive: FittedTowers) -> None:
    train.fit(data(), config(max_steps=33, attention=True), QUIET, tmp_path)
    resumed = train.fit(data(), config(attention=True), QUIET, tmp_path).towers
    assert torch.equal(attentive.vectors, resumed.vectors)
    assert torch.equal(attentive.salience, resumed.salience)


def test_onnx_equals_torch_for_other_users_than_it_was_exported_with() -> None:
    context = Ragged(np.arange(NUM_USERS + 1), np.arange(NUM_USERS) % 2)
    chosen = config(attention=True, num_context=2)
    towers = train.fit(data(context=context), chosen, QUIET).towers
    few = Ragged(board().starts[:4], board().ids[: board().starts[3]])
    onnx = export_user_tower(towers, few, Ragged(np.arange(4), np.arange(3) % 2))
    served = run_user_tower(onnx, inputs_of(towers, board(), context))
    np.testing.assert_allclose(served, towers.embed(board(), context), atol=1e-5)


@pytest.mark.parametrize("attention", [False, True])
def test_onnx_knows_how_much_a_user_had_of_each(attention: bool) -> None:
    weights = np.random.default_rng(1).random(len(board().ids)).astype(np.float32) + 0.1
    histories = replace(board(), weights=weights)
    chosen = config(max_steps=20, attention=attention)
    learned = TrainingData(histories, described(), NUM_ITEMS)
    towers = train.fit(learned, chosen, QUIET).towers
    onnx = export_user_tower(towers, histories)
    served = run_user_tower(onnx, inputs_of(towers, histories))
    np.testing.assert_allclose(served, towers.embed(histories), atol=1e-5)
    assert np.abs(towers.embed(histories) - towers.embed(board())).max() > 0.01


def test_onnx_of_a_user_without_history(attentive: FittedTowers) -> None:
    nobody = Ragged(np.zeros(2, np.int64), np.zeros(0, np.int64))
    served = run_user_tower(export_user_tower(attentive, board()), inputs_of(attentive, nobody))
    np.testing.assert_allclose(served, attentive.embed(nobody), atol=1e-5)


def test_latest_keeps_the_end_of_each_row() -> None:
    rows = Ragged(np.array([0, 3, 3, 4]), np.array([7, 8, 9, 5]))
    kept = latest(rows, 2)
    assert (kept.starts.tolist(), kept.ids.tolist()) == ([0, 2, 2, 3], [8, 9, 5])


def test_arrays_survive_the_file(tmp_path: Path) -> None:
    written = data(context=Ragged(np.arange(NUM_USERS + 1), np.arange(NUM_USERS) % 2))
    write_arrays(tmp_path / "arrays.npz", written)
    read = read_arrays(tmp_path / "arrays.npz")
    assert read.num_own == NUM_ITEMS
    for part in ("histories", "catalogue", "context"):
        one, other = getattr(written, part), getattr(read, part)
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.starts, other.starts)


def test_two_processes_train_by_the_same_script(tmp_path: Path) -> None:
    write_arrays(tmp_path / "arrays.npz", TrainingData(board(), only_ids(NUM_ITEMS), NUM_ITEMS))
    words = ["--data", str(tmp_path / "arrays.npz"), "--out", str(tmp_path / "out"), "--quiet"]
    words += ["--epochs", "3", "--dim", "8", "--device", "cpu"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "offline.models.two_tower.train", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"examples_per_s \d+", done.stdout)) == 1
    assert np.load(tmp_path / "out" / "units.npy").shape == (NUM_ITEMS, 8)


def test_progress_says_examples_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    train.fit(data(), config(max_steps=4), Progress())
    assert "examples/s" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    chosen = TwoTowerConfig(TowerConfig(NUM_ITEMS + 2), train=TrainConfig(device="cuda"))
    with pytest.raises(DeviceError, match="--device auto"):
        train.fit(data(), chosen, QUIET)

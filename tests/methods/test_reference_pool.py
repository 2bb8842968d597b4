"""The pool of references: what each strategy draws, and that its snapshots are safe."""

from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from seppo_core.io.ledger import Ledger
from seppo_core.methods.reference import FrozenCopy
from seppo_core.methods.reference_pool import ReferencePool


def test_initial_and_latest(tmp_path):
    assert [ReferencePool(tmp_path, "initial").choose(k) for k in range(5)] == [0, 0, 0, 0, 0]
    assert [ReferencePool(tmp_path, "latest").choose(k) for k in range(5)] == [0, 1, 2, 3, 4]


def test_random_is_uniform_over_all_saved_so_far_the_initial_weights_among_them(tmp_path):
    draws = Counter(ReferencePool(tmp_path, "random", seed).choose(3) for seed in range(2000))
    assert sorted(draws) == [0, 1, 2, 3]
    assert chisquare([draws[k] for k in range(4)]).pvalue > 1e-3
    assert {ReferencePool(tmp_path, "random", seed).choose(0) for seed in range(20)} == {0}


def test_draw_depends_on_seed_and_iteration_alone(tmp_path):
    pool = ReferencePool(tmp_path / "a", "random", seed=3)
    first = [pool.choose(k) for k in range(20)]
    torch.manual_seed(99)
    other = ReferencePool(tmp_path / "b", "random", seed=3)
    assert [other.choose(k) for k in reversed(range(20))] == first[::-1]
    assert first != [ReferencePool(tmp_path, "random", seed=4).choose(k) for k in range(20)]


def test_snapshots_come_back_and_are_not_overwritten(tmp_path):
    pool = ReferencePool(tmp_path, "latest")
    pool.save(0, {"w": torch.ones(2)})
    pool.save(1, {"w": torch.full((2,), 3.0)})
    pool.save(0, {"w": torch.zeros(2)})
    assert pool.load(0)["w"].tolist() == [1, 1]
    assert pool.load(1)["w"].tolist() == [3, 3]


def test_missing_snapshot_and_unknown_strategy_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"snapshot-0007\.safetensors is missing"):
        ReferencePool(tmp_path).load(7)
    with pytest.raises(ValueError, match='"random", "latest" or "initial"'):
        ReferencePool(tmp_path, "newest").choose(1)


def test_a_pool_that_forgets_draws_from_the_newest_and_deletes_the_rest(tmp_path):
    pool = ReferencePool(tmp_path, "random", seed=3, window=2)
    for iteration in range(6):
        pool.save(iteration, {"w": torch.full((2,), float(iteration))})
        pool.forget(iteration)
        newest = {max(0, iteration - 1), iteration}
        assert pool.choose(iteration) in newest
        assert pool.load(pool.choose(iteration))["w"][0].item() in newest
        assert pool.entries(iteration) == len(newest)
        assert len(list(tmp_path.iterdir())) == len(newest)
    drawn = {ReferencePool(tmp_path, "random", seed, window=2).choose(9) for seed in range(40)}
    assert drawn == {8, 9}


def test_a_pool_that_remembers_all_forgets_nothing(tmp_path):
    pool = ReferencePool(tmp_path)
    for iteration in range(3):
        pool.save(iteration, {"w": torch.ones(1)})
        pool.forget(iteration)
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(ValueError, match="window=2 needs strategy random"):
        ReferencePool(tmp_path, "latest", window=2)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_offloaded_reference_predicts_the_same_and_waits_elsewhere(device):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).to(device)
    model[1].requires_grad_(False)
    here, away = FrozenCopy(model), FrozenCopy(model, offload=True)
    state = {name: torch.randn(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    for reference in (here, away):
        reference.load(state)
    x = torch.randn(5, 3, device=device)
    for _ in range(2):
        with here.active() as a, away.active() as b:
            assert torch.equal(a(x), b(x))
            assert all(p.device.type == device for p in b.parameters())
        assert away.module[0].weight.device.type == "cpu"
    # what is not trained is the policy's own and stays with it
    assert away.module[1].weight is model[1].weight


def test_a_damaged_snapshot_is_refused_or_written_anew(tmp_path, capsys):
    pool = ReferencePool(tmp_path / "pool", "latest", ledger=Ledger(tmp_path))
    state = {"w": torch.arange(4.0)}
    pool.save(0, state)
    pool.save(1, {"w": torch.ones(4)})
    whole = pool.path(0).read_bytes()
    assert pool.holds(0)
    for content in (whole[:-1] + b"\1", whole[:50], pool.path(1).read_bytes()):
        pool.path(0).write_bytes(content)
        assert not pool.holds(0)
        with pytest.raises(ValueError, match=r"snapshot-0000.safetensors has another content than was written"):
            pool.load(0)
        pool.save(0, state)
        assert pool.path(0).read_bytes() == whole and "written anew" in capsys.readouterr().out
    # without a record, as after a kill, it must be what the iteration begins with
    Ledger(tmp_path).forget(pool.path(1))
    pool.save(1, {"w": torch.zeros(4)})
    assert pool.load(1)["w"].tolist() == [0] * 4
    with pytest.raises(FloatingPointError, match="'w' of the policy is not finite"):
        pool.save(2, {"w": torch.tensor([1.0, float("nan")])})
    assert not pool.path(2).exists()

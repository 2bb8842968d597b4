"""LPIPS beside a second derivation in float64, and its files."""

import pytest
import torch

from benchmarks.evaluation.metrics.lpips import LPIPS, LPIPSNet
from benchmarks.evaluation.metrics.networks import trunks
from tests.benchmarks.video_metrics import by_hand
from tests.benchmarks.video_metrics.clips import clip, random_state, shapes_of

NETS = ("alex", "vgg")


def save(state, path):
    torch.save({key: value.float() for key, value in state.items()}, path)
    return path


@pytest.mark.parametrize("net", NETS)
def test_beside_a_second_derivation(net):
    trunk, heads = random_state(by_hand.trunk_shapes(net, 8)), random_state(by_hand.head_shapes(net, 8))
    model = LPIPSNet(net, narrow=8).double().eval()
    model.trunk.load_state_dict(trunk)
    model.heads.load_state_dict(heads)
    x, y = (clip(2, 64, 80, seed).double() / 127.5 - 1 for seed in (1, 2))
    expected = by_hand.lpips(net, trunk, heads, x, y)
    assert expected.min() > 1e-3
    torch.testing.assert_close(model(x, y), expected, rtol=1e-12, atol=0)
    assert model(x, x).abs().max() == 0


@pytest.mark.parametrize("net", NETS)
def test_published_names_and_shapes(net):
    with torch.device("meta"):
        model = LPIPSNet(net)
    assert shapes_of(model.trunk) == by_hand.trunk_shapes(net)
    assert shapes_of(model.heads) == by_hand.head_shapes(net)


def test_loads_the_published_files_and_splits_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.evaluation.metrics.lpips.LPIPSNet", lambda net: LPIPSNet(net, narrow=8))
    trunk, heads = random_state(by_hand.trunk_shapes("alex", 8)), random_state(by_hand.head_shapes("alex", 8))
    classifier = {"classifier.1.weight": torch.zeros(4, 4), "classifier.1.bias": torch.zeros(4)}
    save(trunk | classifier, tmp_path / "alexnet-owt-7be5be79.pth")
    save(heads, tmp_path / "alex.pth")
    metric = LPIPS.load(weights=tmp_path, backbone=tmp_path)
    assert metric.column == "lpips_alex" and metric.better == -1
    assert set(metric.files) == {"alex.pth", "alexnet-owt-7be5be79.pth"}
    frames, reference = clip(5, 64, 64, 1), clip(5, 64, 64, 2)
    whole = metric.compare(frames, reference)
    expected = by_hand.lpips("alex", trunk, heads, frames.double() / 127.5 - 1, reference.double() / 127.5 - 1)
    torch.testing.assert_close(whole.double(), expected, rtol=1e-4, atol=0)
    metric.batch_size = 2
    torch.testing.assert_close(metric.compare(frames, reference), whole, rtol=1e-5, atol=0)


def test_files_that_do_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.evaluation.metrics.lpips.LPIPSNet", lambda net: LPIPSNet(net, narrow=8))
    alex = save(random_state(by_hand.trunk_shapes("alex", 8)), tmp_path / "trunk.pth")
    heads = save(random_state(by_hand.head_shapes("vgg", 8)), tmp_path / "heads.pth")
    with pytest.raises(ValueError, match="of another shape"):
        LPIPS.load(weights=heads, backbone=alex)
    with pytest.raises(ValueError, match="missing"):
        LPIPS.load(weights=heads, backbone=alex, net="vgg")
    with pytest.raises(ValueError, match="alex, vgg"):
        LPIPS.load(net="squeeze")


def test_taps_are_the_last_activations_of_the_slices():
    # counted by hand in torchvision's listing: alex 0-1, 2-4, 5-7, 8-9, 10-11; vgg16 slices end at relu 1_2 to 5_3
    assert trunks.TAPS == {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
    for net in NETS:
        features = trunks.Trunk(net, 8).features
        assert all(isinstance(features[tap], torch.nn.ReLU) for tap in trunks.TAPS[net])

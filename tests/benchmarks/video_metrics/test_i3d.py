"""I3D beside a second derivation in float64, its files under both names, and the geometries beside plain loops."""

import numpy as np
import pytest
import torch

from benchmarks.evaluation.metrics.fvd_features import I3DFeatures
from benchmarks.evaluation.metrics.networks.i3d import I3D, i3d_state, pad_same
from benchmarks.evaluation.metrics.networks.i3d_geometry import GEOMETRIES, i3d_input
from tests.benchmarks.video_metrics import by_hand
from tests.benchmarks.video_metrics.clips import clip, random_state, shapes_of

NARROW = 16


@pytest.mark.parametrize("frames", [9, pytest.param(16, marks=pytest.mark.slow)])
def test_beside_a_second_derivation(frames):
    state = random_state(by_hand.i3d_shapes(NARROW))
    model = I3D(NARROW).double()
    model.load_state_dict(state)
    x = torch.randn(1, 3, frames, 224, 224, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = by_hand.i3d(state, x)
    assert expected.shape == (1, 400) and expected.std() > 1e-2
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


def test_published_names_and_shapes():
    with torch.device("meta"):
        model = I3D()
    assert shapes_of(model) == by_hand.i3d_shapes()
    # 12.3 million without the 400 classes, as published, and these
    assert sum(value.numel() for value in model.parameters()) == 12_697_264


def other_names(state):
    """The names of kinetics_i3d_pytorch's model_rgb.pth."""
    renamed = {}
    for key, value in state.items():
        key = key.replace("logits.", "conv3d_0c_1x1.").replace("Conv3d", "conv3d").replace("Mixed", "mixed")
        for branch in "0123":
            for ours, theirs in ((f".b{branch}.", ""), (f".b{branch}a.", ".0"), (f".b{branch}b.", ".1")):
                key = key.replace(ours, f".branch_{branch}{theirs}.")
        renamed[key.replace(".bn.", ".batch3d.")] = value
    return renamed


def test_the_other_names_are_translated():
    state = random_state(by_hand.i3d_shapes(NARROW))
    other = other_names(state)
    assert "mixed_4f.branch_3.1.batch3d.running_mean" in other and "mixed_3b.branch_0.conv3d.weight" in other
    translated = i3d_state(other)
    assert translated.keys() == state.keys()
    assert all(translated[key] is value for key, value in state.items())
    assert i3d_state(state) is state


def test_loads_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.evaluation.metrics.fvd_features.I3D", lambda: I3D(NARROW))
    state = random_state(by_hand.i3d_shapes(NARROW))
    path = tmp_path / "i3d_pretrained_400.pt"
    torch.save({key: value.float() for key, value in state.items()}, path)
    features = I3DFeatures.load(path, geometry="cd-fvd", frames=9)
    assert features.column == "i3d[cd-fvd,9f]"
    frames = clip(9, 40, 60)
    rows = features.features(frames)
    expected = by_hand.i3d(state, i3d_input(frames, "cd-fvd").double())
    torch.testing.assert_close(rows.double(), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="10 frames where 9 are expected"):
        features.features(clip(10))


@pytest.mark.parametrize(("change", "said"), [({"frames": 8}, "at least 9"), ({"geometry": "square"}, "cd-fvd")])
def test_options_that_make_no_sense(change, said):
    with pytest.raises(ValueError, match=said):
        I3DFeatures(I3D(NARROW), (), **change)


def test_clips_of_another_size():
    with pytest.raises(ValueError, match="112 × 112"):
        I3D(NARROW)(torch.zeros(1, 3, 16, 112, 112))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "after"), [(5, 3, 2, 1, 1), (6, 3, 2, 0, 1), (5, 2, 2, 0, 1)]
)
def test_same_padding(size, kernel, stride, before, after):
    x = torch.ones(1, 1, size, 1, 1)
    padded = pad_same(x, (kernel, 1, 1), (stride, 1, 1)).flatten()
    assert padded.tolist() == [0] * before + [1] * size + [0] * after


def bilinear(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Half-pixel centres, edges repeated."""
    y, x = (
        ((np.arange(out) + 0.5) * size / out - 0.5).clip(0, size - 1)
        for out, size in ((height, plane.shape[0]), (width, plane.shape[1]))
    )
    top, left = y.astype(int), x.astype(int)
    bottom, right = (top + 1).clip(max=plane.shape[0] - 1), (left + 1).clip(max=plane.shape[1] - 1)
    rows = [plane[r][:, left] * (1 - (x - left)) + plane[r][:, right] * (x - left) for r in (top, bottom)]
    return rows[0] * (1 - (y - top))[:, None] + rows[1] * (y - top)[:, None]


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (256, 256)])
def test_short_side_to_224_and_the_middle(height, width):
    frames = clip(2, height, width)
    scale = 224 / min(height, width)
    tall, wide = (int(np.ceil(round(side * scale, 9))) for side in (height, width))
    scaled = bilinear(frames[1, 2].double().numpy() / 255, tall, wide)
    top, left = (tall - 224) // 2, (wide - 224) // 2
    wanted = torch.from_numpy(scaled[top : top + 224, left : left + 224] * 2 - 1)
    for geometry in ("styleganv", "videogpt"):
        ours = i3d_input(frames, geometry)
        assert ours.shape == (1, 3, 2, 224, 224)
        torch.testing.assert_close(ours[0, 2, 1].double(), wanted, atol=2e-5, rtol=0)


def test_squash():
    frames = clip(2, 40, 61)
    wanted = torch.from_numpy(bilinear(frames[0, 1].double().numpy(), 224, 224) * 2 / 255 - 1)
    torch.testing.assert_close(i3d_input(frames, "cd-fvd")[0, 1, 0].double(), wanted, atol=2e-5, rtol=0)


def test_only_styleganv_sees_more_than_bytes():
    frames = torch.rand(2, 3, 30, 30, generator=torch.Generator().manual_seed(0))
    rounded = (frames * 255).round().to(torch.uint8)
    same = {name: torch.equal(i3d_input(frames, name), i3d_input(rounded, name)) for name in GEOMETRIES}
    assert same == {"styleganv": False, "videogpt": True, "cd-fvd": True}

"""FID's Inception beside a second derivation in float64, its file, and the named resizes beside plain loops."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.evaluation.metrics.fid_features import InceptionFeatures
from benchmarks.evaluation.metrics.networks.inception import FIDInception
from benchmarks.evaluation.metrics.resize import RESIZES, inception_input
from tests.benchmarks.video_metrics import by_hand
from tests.benchmarks.video_metrics.clips import clip, random_state, shapes_of

NARROW = 16


def test_beside_a_second_derivation():
    state = random_state(by_hand.inception_shapes(NARROW))
    model = FIDInception(NARROW).double()
    model.load_state_dict(state)
    x = torch.randn(2, 3, 299, 299, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = by_hand.inception(state, x)
    assert expected.shape == (2, 2048 // NARROW) and expected.std() > 1e-2
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_published_names_and_shapes():
    with torch.device("meta"):
        model = FIDInception()
    assert shapes_of(model) == by_hand.inception_shapes()
    # torchvision's published 27,161,264 without its auxiliary classifier, and 1008 classes instead of 1000
    assert sum(value.numel() for value in model.parameters()) == 27_161_264 - 3_326_696 + 8 * 2049


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> InceptionFeatures:
    path = tmp_path_factory.mktemp("fid") / "pt_inception-2015-12-05-6726825d.pth"
    state = {key: value.float() for key, value in random_state(by_hand.inception_shapes(NARROW)).items()}
    counters = {key.replace("running_var", "num_batches_tracked"): torch.tensor(0) for key in state if "_var" in key}
    torch.save(state | counters, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.evaluation.metrics.fid_features.FIDInception", lambda: FIDInception(NARROW))
        return InceptionFeatures.load(path.parent)


def test_one_row_per_frame_whatever_the_batches(features):
    frames = clip(3)
    rows = features.features(frames)
    assert rows.shape == (3, 2048 // NARROW) and rows.dtype == torch.float32
    features.batch_size = 2
    torch.testing.assert_close(features.features(frames), rows, rtol=1e-4, atol=1e-5)
    assert features.column == "inception[clean]"


def test_unknown_resize(features):
    with pytest.raises(ValueError, match="clean, pytorch_fid, tf1"):
        InceptionFeatures(features.model, (), resize="bicubic")
    with pytest.raises(ValueError, match="clean, pytorch_fid, tf1"):
        inception_input(clip(1), "bicubic")


def test_a_whole_picture_of_one_colour_stays_so():
    frames = torch.full((1, 3, 20, 30), 255, dtype=torch.uint8)
    for resize, value in (("clean", 127 / 128), ("pytorch_fid", 1.0), ("tf1", 127 / 128)):
        out = inception_input(frames, resize)
        assert out.shape == (1, 3, 299, 299)
        torch.testing.assert_close(out, torch.full_like(out, value))


@pytest.mark.parametrize("size", [(20, 33), (299, 299), (400, 310)])
def test_tf1_beside_a_loop(size):
    frame = clip(1, *size)[0]
    plane = frame[1].numpy().astype(np.float32)
    height, width = size
    wanted = np.zeros((299, 299), dtype=np.float32)
    for i in range(299):
        for j in range(299):
            y, x = np.float32(i) * np.float32(height / 299), np.float32(j) * np.float32(width / 299)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = plane[top, left] + (plane[top, right] - plane[top, left]) * (x - left)
            lower = plane[bottom, left] + (plane[bottom, right] - plane[bottom, left]) * (x - left)
            wanted[i, j] = upper + (lower - upper) * (y - top)
    ours = inception_input(frame[None], "tf1")[0, 1] * 128 + 128
    torch.testing.assert_close(ours, torch.from_numpy(wanted), atol=2e-4, rtol=0)


def test_pytorch_fid_beside_a_loop():
    """Half-pixel centres, edges repeated, no antialias even where it shrinks."""
    frame = clip(1, 310, 20)[0]
    plane = frame[2].double().numpy() / 255

    def places(size: int) -> np.ndarray:
        return ((np.arange(299) + 0.5) * size / 299 - 0.5).clip(0, size - 1)

    y, x = places(310), places(20)
    top, left = y.astype(int), x.astype(int)
    bottom, right = (top + 1).clip(max=309), (left + 1).clip(max=19)
    across = [plane[row][:, left] * (1 - (x - left)) + plane[row][:, right] * (x - left) for row in (top, bottom)]
    wanted = across[0] * (1 - (y - top))[:, None] + across[1] * (y - top)[:, None]
    ours = (inception_input(frame[None], "pytorch_fid")[0, 2] + 1) / 2
    torch.testing.assert_close(ours.double(), torch.from_numpy(wanted), atol=1e-5, rtol=0)


def test_clean_is_pil_in_floating_point_clipped():
    frame = torch.zeros(3, 350, 400, dtype=torch.uint8)
    frame[:, ::7, ::3] = 255
    image = Image.fromarray(frame[0].numpy().astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
    raw = np.asarray(image)
    assert raw.min() < 0
    ours = inception_input(frame[None], "clean")[0, 0] * 128 + 128
    torch.testing.assert_close(ours, torch.from_numpy(raw.clip(0, 255)), atol=1e-4, rtol=0)
    assert (ours - ours.round()).abs().max() > 0.1


def test_fractions_are_rounded_to_bytes_first():
    frames = clip(1)
    for resize in RESIZES:
        assert torch.equal(inception_input(frames.float() / 255, resize), inception_input(frames, resize))

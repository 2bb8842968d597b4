"""FVD and KVD with each named geometry: beside cd-fvd at true width, and beside scipy and a second derivation."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.evaluation.metrics.fvd_features import I3DFeatures, TorchScriptI3DFeatures
from benchmarks.evaluation.metrics.networks.i3d import I3D
from benchmarks.evaluation.metrics.networks.i3d_geometry import Geometry, i3d_input
from benchmarks.evaluation.metrics.networks.videomae import VideoMAE, videomae_state
from benchmarks.evaluation.metrics.videomae_features import VideoMAEFeatures, videomae_input
from tests.benchmarks.video_metrics import by_hand
from tests.benchmarks.video_metrics.clips import clip, random_state, shapes_of
from tests.parity.set_features import Clips, Compare, compare_columns, two_sets

pytestmark = pytest.mark.parity
SIDE, NARROW = 224, 16


@pytest.fixture(scope="module")
def i3d_pair() -> tuple[nn.Module, nn.Module]:
    """Our network and cd-fvd's, at their true width with one random state."""
    networks = pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d")
    state = {key: value.float() for key, value in random_state(by_hand.i3d_shapes()).items()}
    theirs, ours = networks.InceptionI3d(400, in_channels=3).eval(), I3D().eval()
    found = theirs.load_state_dict(state, strict=False)
    assert all("num_batches_tracked" in key for key in found.missing_keys) and not found.unexpected_keys
    ours.load_state_dict(state)
    return ours, theirs


def squashed_by_cd_fvd(video: Tensor) -> Tensor:
    preprocess = pytest.importorskip("cdfvd.third_party.i3d.utils").preprocess_i3d
    return preprocess(video.permute(0, 2, 3, 1)[None].numpy())


@torch.no_grad()
def test_i3d(compare: Compare, i3d_pair):
    """An odd number of frames, which is padded on one side more than on the other."""
    ours, theirs = i3d_pair
    video = clip(15, 90, 120)
    pixels = squashed_by_cd_fvd(video)
    compare("FVD's pixels, cd-fvd", "cd-fvd", i3d_input(video, "cd-fvd"), pixels, 1e-6)
    logits = theirs(pixels)
    compare("I3D features", "cd-fvd (relative)", ours(pixels) / logits.std(), logits / logits.std(), 1e-4)


@torch.no_grad()
def test_squashed_clips_to_distances(compare: Compare, i3d_pair):
    ours, theirs = i3d_pair
    extractor = I3DFeatures(ours, (), "cd-fvd")
    against = "cd-fvd's pixels and network"
    compare_columns(compare, extractor, lambda x: theirs(squashed_by_cd_fvd(x)), two_sets(16), against, 1e-4)


def by_scipy(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """(f, 3, h, w) in float64 with half-pixel centres, linear between the four nearest, edges held."""
    rows = (np.arange(height) + 0.5) * frames.shape[2] / height - 0.5
    columns = (np.arange(width) + 0.5) * frames.shape[3] / width - 0.5
    grid = np.meshgrid(rows, columns, indexing="ij")
    planes = frames.reshape(-1, *frames.shape[2:])
    seen = [map_coordinates(plane, grid, order=1, mode="nearest") for plane in planes]
    return np.stack(seen).reshape(*frames.shape[:2], height, width)


def covered(frames: np.ndarray) -> np.ndarray:
    """Short side to 224, the longer one rounded up, the middle cut out."""
    height, width = frames.shape[2:]
    if height < width:
        size = (SIDE, -(-width * SIDE // height))
    else:
        size = (-(-height * SIDE // width), SIDE)
    top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return by_scipy(frames, *size)[..., top : top + SIDE, left : left + SIDE]


def theirs_by_hand(geometry: str):
    """The geometry by scipy in float64, then I3D a second time; narrow, since its width changes nothing here."""
    state = {key: value.float() for key, value in random_state(by_hand.i3d_shapes(NARROW)).items()}

    def features(frames: Tensor) -> Tensor:
        values = frames.double().numpy() / (255 if frames.dtype == torch.uint8 else 1)
        if geometry != "styleganv":
            values = np.rint(values * 255) / 255
        pixels = by_scipy(values, SIDE, SIDE) if geometry == "stylegan-v-original" else covered(values)
        return by_hand.i3d(state, torch.from_numpy(2 * pixels - 1).float().transpose(0, 1)[None])

    return features


def narrow_i3d() -> I3D:
    model = I3D(NARROW).eval()
    model.load_state_dict({key: value.float() for key, value in random_state(by_hand.i3d_shapes(NARROW)).items()})
    return model


def unrounded(clips: Clips) -> Clips:
    """Floating point frames with values between the 8-bit ones, which rounding moves."""
    return {name: (frames.float() / 255 * 0.95 + 0.0013).contiguous() for name, frames in clips.items()}


@torch.no_grad()
@pytest.mark.parametrize("geometry", ["styleganv", "videogpt"])
def test_cut_clips_to_distances(compare: Compare, geometry: Geometry):
    x, y = two_sets(16, 90, 121)
    sets = (unrounded(x), unrounded(y))
    extractor = I3DFeatures(narrow_i3d(), (), geometry)
    one = next(iter(sets[0].values()))
    apart = i3d_input(one, "styleganv") - i3d_input(one, "videogpt")
    assert apart.abs().max() > 1e-3
    against = "scipy's pixels, I3D derived a second time"
    compare_columns(compare, extractor, theirs_by_hand(geometry), sets, against, 1e-4)


class Detector(nn.Module):
    """Stands in for StyleGAN-V's program, which is not to be had here: the same call, squashing and scaling inside."""

    def __init__(self, net: torch.jit.ScriptModule):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if resize:
            planes = F.interpolate(x[0].transpose(0, 1), [224, 224], mode="bilinear", align_corners=False)
            x = planes.transpose(0, 1)[None]
        if rescale:
            x = 2 * x / 255 - 1
        assert return_features
        return self.net(x)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_clips_to_distances_by_the_original_program(compare: Compare, tmp_path):
    traced = torch.jit.trace(narrow_i3d(), torch.zeros(1, 3, 16, SIDE, SIDE))
    torch.jit.save(torch.jit.script(Detector(traced)), tmp_path / "i3d_torchscript.pt")
    x, y = two_sets(16, 90, 121)
    sets = (unrounded(x), unrounded(y))
    against = "scipy's pixels, I3D derived a second time; the program is a stand-in"
    features = TorchScriptI3DFeatures.load(tmp_path)
    compare_columns(compare, features, theirs_by_hand("stylegan-v-original"), sets, against, 1e-4)


@torch.no_grad()
def test_videomae(compare: Compare):
    """At reduced width on the true clip size, and the true width's names and shapes."""
    theirs = pytest.importorskip("cdfvd.third_party.VideoMAEv2.videomaev2_finetune")
    preprocess = pytest.importorskip("cdfvd.third_party.VideoMAEv2.utils").preprocess_videomae

    net = theirs.VisionTransformer(
        patch_size=14, embed_dim=44, depth=2, num_heads=4, mlp_ratio=48 / 11, qkv_bias=True, num_classes=5,
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6), use_mean_pooling=True,
    ).eval()  # fmt: skip
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    state = {key: value.float() for key, value in random_state(shapes).items()}
    net.load_state_dict(state)
    ours = VideoMAE(width=44, depth=2, heads=4, inner=192).eval()
    ours.load_state_dict(videomae_state(state))

    def pixels_of(video: Tensor) -> Tensor:
        return preprocess(video.permute(0, 2, 3, 1)[None].numpy())

    video = clip(16, 90, 120)
    pixels = pixels_of(video)
    compare("FVD's pixels, VideoMAE", "cd-fvd", videomae_input(video), pixels, 1e-6)
    compare("VideoMAE features", "cd-fvd", ours(pixels), net.forward_features(pixels), 1e-5)
    against = "cd-fvd's pixels and network"
    compare_columns(
        compare,
        VideoMAEFeatures(ours, ()),
        lambda x: net.forward_features(pixels_of(x)),
        two_sets(16),
        against,
        1e-4,
    )
    # one block of the true width stands for all forty
    wide = theirs.VisionTransformer(
        patch_size=14, embed_dim=1408, depth=1, num_heads=16, mlp_ratio=48 / 11, qkv_bias=True, num_classes=174,
        use_mean_pooling=True,
    )  # fmt: skip
    with torch.device("meta"):
        own = VideoMAE(depth=1)
    assert shapes_of(own) == {key: tuple(value.shape) for key, value in videomae_state(wide.state_dict()).items()}

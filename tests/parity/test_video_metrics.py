"""Metrics of clips beside skimage, lpips, torchvision, pytorch-fid, torch-fidelity, clean-fid, torchmetrics, cd-fvd."""

from collections.abc import Callable

import lpips
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchvision.models import alexnet, inception, vgg16
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

from benchmarks.judges.dynamic_degree import dynamic_degree, load
from benchmarks.scorers.images import CLIP_MEAN, CLIP_STD
from benchmarks.video_metrics.consistency import IMAGENET_MEAN, IMAGENET_STD, clip_input, dino_input
from benchmarks.video_metrics.distances import KernelMMD, frechet_distance
from benchmarks.video_metrics.i3d import I3D
from benchmarks.video_metrics.i3d_geometry import i3d_input
from benchmarks.video_metrics.inception import FIDInception
from benchmarks.video_metrics.lpips import LPIPSNet
from benchmarks.video_metrics.paired import psnr, ssim
from benchmarks.video_metrics.resize import inception_input
from benchmarks.video_metrics.videomae import VideoMAE, videomae_state
from benchmarks.video_metrics.videomae_features import videomae_input
from seppo_video.frames import write_clip
from tests.benchmarks.video_metrics import by_hand
from tests.benchmarks.video_metrics.clips import clip, random_state, shapes_of

pytestmark = pytest.mark.parity
Compare = Callable[[str, str, Tensor, Tensor, float], None]


def planes(frames: Tensor) -> list[np.ndarray]:
    """(h, w, 3) in [0, 1], float64."""
    return [frame.permute(1, 2, 0).double().numpy() / 255 for frame in frames]


def test_psnr(compare: Compare):
    x, y = clip(3, 64, 80, 1), clip(3, 64, 80, 2)
    theirs = [peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(planes(x), planes(y), strict=True)]
    compare("PSNR", "scikit-image", psnr(x, y), torch.tensor(theirs), 1e-5)


def test_ssim(compare: Compare):
    x, y = clip(3, 64, 80, 1), clip(3, 64, 80, 2)
    x[0] = y[0] // 2 + 30
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    theirs = [structural_similarity(a, b, channel_axis=2, **options) for a, b in zip(planes(x), planes(y), strict=True)]
    compare("SSIM", "scikit-image", ssim(x, y), torch.tensor(theirs), 1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision", "ignore::FutureWarning")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips(compare: Compare, net):
    """The heads are the published ones, which lie in the wheel; the trunk is random, at its true width."""
    theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    ours = LPIPSNet(net).eval()
    torch.manual_seed(0)
    trunk = (alexnet if net == "alex" else vgg16)(weights=None).features.state_dict()
    ours.trunk.load_state_dict({f"features.{key}": value for key, value in trunk.items()}, strict=False)
    slices = [key for key in theirs.state_dict() if key.startswith("net.")]
    theirs.load_state_dict({key: trunk[key.split(".", 2)[2]] for key in slices}, strict=False)
    heads = {key: value for key, value in theirs.state_dict().items() if key.startswith("lin") and "lins" not in key}
    ours.heads.load_state_dict(heads)
    x, y = (clip(2, 64, 96, seed).float() / 127.5 - 1 for seed in (1, 2))
    with torch.no_grad():
        compare(f"LPIPS {net}", "lpips", ours(x, y), theirs(x, y).flatten(), 1e-7)


def fill_inception(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    found = model.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
    assert all("num_batches_tracked" in key for key in found.missing_keys) and not found.unexpected_keys
    return model.eval()


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """The file's every tensor at its true size, random."""
    return random_state(by_hand.inception_shapes())


@pytest.fixture(scope="module")
def ours(published) -> nn.Module:
    return fill_inception(FIDInception(), published)


@torch.no_grad()
def test_inception_and_its_resize_beside_torch_fidelity(compare: Compare, published, ours, tmp_path):
    extractors = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    path = tmp_path / "inception.pth"
    counters = {
        key.replace("running_var", "num_batches_tracked"): torch.tensor(0) for key in published if "_var" in key
    }
    torch.save({key: value.float() for key, value in published.items()} | counters, path)
    theirs = extractors.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
    )
    frames = clip(2, 90, 120)
    rows = theirs(frames)[0]
    compare(
        "FID features, tf1 (relative)",
        "torch-fidelity",
        ours(inception_input(frames, "tf1")) / rows.std(),
        rows / rows.std(),
        1e-4,
    )


@torch.no_grad()
def test_inception_and_its_resize_beside_pytorch_fid(compare: Compare, published, ours, monkeypatch):
    theirs = pytest.importorskip("pytorch_fid.inception")

    state = {key: value.float() for key, value in published.items()}
    monkeypatch.setattr(nn.Module, "load_state_dict", _lenient(nn.Module.load_state_dict))
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *args, **options: state)
    net = theirs.InceptionV3().eval()
    monkeypatch.undo()
    frames = clip(2, 90, 120)
    rows = net(frames.float() / 255)[0].flatten(1)
    compare(
        "FID features, pytorch_fid (relative)",
        "pytorch-fid",
        ours(inception_input(frames, "pytorch_fid")) / rows.std(),
        rows / rows.std(),
        1e-4,
    )


def _lenient(load: Callable) -> Callable:
    """The published file has counters that say nothing, the random one has none."""
    return lambda module, state, *args, **options: load(module, state, strict=False)


@torch.no_grad()
def test_blocks_that_fid_left_alone_are_torchvisions(compare: Compare, published, ours):
    prefix = "Mixed_7a."
    theirs = inception.InceptionD(768)
    fill_inception(
        theirs, {key.removeprefix(prefix): value for key, value in published.items() if key.startswith(prefix)}
    )
    x = torch.randn(1, 768, 17, 17, generator=torch.Generator().manual_seed(0))
    compare("Inception block 7a", "torchvision", ours.Mixed_7a(x), theirs(x), 1e-4)


@pytest.mark.parametrize("size", [(90, 120), (512, 320)])
def test_clean_resize(compare: Compare, size):
    make_resizer = pytest.importorskip("cleanfid.resize").make_resizer

    frames = clip(1, *size)
    theirs = make_resizer("PIL", False, "bicubic", (299, 299))(frames[0].permute(1, 2, 0).numpy())
    values = inception_input(frames, "clean")[0] * 128 + 128
    compare("FID resize, clean (of 255)", "clean-fid", values, torch.from_numpy(theirs).permute(2, 0, 1), 1e-4)


class Given(nn.Module):
    """Hands features through as if they had been extracted."""

    num_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :12].double()


def exact(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def feature_rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 12, generator=generator, dtype=torch.float64)
    return x, x.flip(0) @ torch.randn(12, 12, generator=generator, dtype=torch.float64) + 0.2


@pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics", "ignore:The `disp` argument:DeprecationWarning")
def test_frechet(compare: Compare):
    clean = pytest.importorskip("cleanfid.fid").frechet_distance
    original = pytest.importorskip("pytorch_fid.fid_score").calculate_frechet_distance

    x, y = feature_rows()
    ours = exact(frechet_distance(x, y))
    metric = FrechetInceptionDistance(feature=Given(), normalize=True, input_img_size=(3, 2, 2)).set_dtype(
        torch.float64
    )
    metric.update(x.view(50, 3, 2, 2), real=True)
    metric.update(y.view(50, 3, 2, 2), real=False)
    compare("Fréchet distance", "torchmetrics", ours, metric.compute().double(), 1e-5)
    statistics = [value for rows in (x, y) for value in (rows.mean(0).numpy(), np.cov(rows.numpy(), rowvar=False))]
    for name, theirs in (("clean-fid", clean), ("pytorch-fid", original)):
        try:
            value = theirs(*statistics)
        except TypeError:
            # both call scipy's sqrtm with an argument that SciPy 1.18 has no more
            continue
        compare("Fréchet distance", name, ours, exact(value), 1e-8)


@pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")
def test_kernel(compare: Compare):
    clean = pytest.importorskip("cleanfid.fid").kernel_distance

    x, y = feature_rows()
    ours = exact(KernelMMD.of(x, y).value())
    theirs = clean(x.numpy(), y.numpy(), num_subsets=1)
    compare("KID", "clean-fid", ours, exact(theirs), 1e-8)
    metric = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=50, normalize=True)
    metric.update(x.view(50, 3, 2, 2), real=True)
    metric.update(y.view(50, 3, 2, 2), real=False)
    compare("KID", "torchmetrics", ours, metric.compute()[0].double(), 1e-6)


@pytest.mark.parametrize("size", [(256, 256), (120, 251), (300, 225)])
def test_vbench_framing(compare: Compare, size):
    """The transforms as VBench composes them, on frames as it holds them: floating point from 0 to 255."""
    frames = clip(2, *size)
    seen = Resize(224, antialias=False)(frames.float()) / 255
    dino = Normalize(IMAGENET_MEAN, IMAGENET_STD)(seen)
    compare("subject consistency's pixels", "torchvision", dino_input(frames), dino, 1e-5)
    middle = Compose([Resize(224, InterpolationMode.BICUBIC, antialias=False), CenterCrop(224)])(frames.float()) / 255
    compare(
        "background consistency's pixels",
        "torchvision",
        clip_input(frames),
        Normalize(CLIP_MEAN, CLIP_STD)(middle),
        1e-5,
    )


@torch.no_grad()
@pytest.mark.parametrize("frames", [15, 16])
def test_i3d(compare: Compare, frames):
    """At its true width, from frames to logits."""
    networks = pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d")
    preprocess_i3d = pytest.importorskip("cdfvd.third_party.i3d.utils").preprocess_i3d

    state = {key: value.float() for key, value in random_state(by_hand.i3d_shapes()).items()}
    theirs, ours = networks.InceptionI3d(400, in_channels=3).eval(), I3D().eval()
    found = theirs.load_state_dict(state, strict=False)
    assert all("num_batches_tracked" in key for key in found.missing_keys) and not found.unexpected_keys
    ours.load_state_dict(state)
    video = clip(frames, 90, 120)
    pixels = preprocess_i3d(video.permute(0, 2, 3, 1)[None].numpy())
    compare("FVD pixels, cd-fvd", "cd-fvd", i3d_input(video, "cd-fvd"), pixels, 1e-6)
    logits = theirs(pixels)
    compare("FVD features (relative)", "cd-fvd", ours(pixels) / logits.std(), logits / logits.std(), 1e-4)


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
    video = clip(16, 90, 120)
    pixels = preprocess(video.permute(0, 2, 3, 1)[None].numpy())
    compare("FVD pixels, VideoMAE", "cd-fvd", videomae_input(video), pixels, 1e-6)
    compare("FVD features, VideoMAE", "cd-fvd", ours(pixels), net.forward_features(pixels), 1e-5)
    # one block of the true width stands for all forty
    wide = theirs.VisionTransformer(
        patch_size=14, embed_dim=1408, depth=1, num_heads=16, mlp_ratio=48 / 11, qkv_bias=True, num_classes=174,
        use_mean_pooling=True,
    )  # fmt: skip
    with torch.device("meta"):
        own = VideoMAE(depth=1)
    assert shapes_of(own) == {key: tuple(value.shape) for key, value in videomae_state(wide.state_dict()).items()}


def test_dynamic_degree(compare: Compare, tmp_path):
    """What RAFT is shown, beside the transforms that its weights come with; and the judge on a network of its size."""
    frames, seen = clip(3, 128, 136), []

    def flow(first: Tensor, second: Tensor) -> Tensor:
        seen.append((first, second))
        return torch.zeros(1, 2, 128, 136)

    dynamic_degree(frames, 8, flow)
    shown = Raft_Large_Weights.C_T_V1.transforms()
    for number, pair in enumerate(seen):
        theirs = shown(frames[number : number + 1], frames[number + 1 : number + 2])
        compare("dynamic degree's pixels", "torchvision", torch.cat(pair), torch.cat(theirs), 1e-6)
    torch.manual_seed(0)
    net = raft_large(weights=None)
    torch.save(net.state_dict(), tmp_path / "raft.pth")
    write_clip(tmp_path / "clip.mp4", frames[:2].permute(0, 2, 3, 1).numpy(), 8)
    found = load(str(tmp_path / "raft.pth"), None, "cpu")({"file": str(tmp_path / "clip.mp4")})
    with torch.no_grad():
        theirs = net.eval()(*shown(frames[:1], frames[1:2]), num_flow_updates=20)[-1]
    fastest = theirs.norm(dim=1).flatten().sort(descending=True).values[: int(128 * 136 * 0.05)].mean()
    compare("dynamic degree's flow", "torchvision", exact(found["flow"]), fastest, 1e-3)

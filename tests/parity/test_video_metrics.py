"""Metrics of clips beside skimage, lpips, torchvision, timm, open_clip; distances beside pytorch-fid, clean-fid."""

from collections.abc import Callable

import lpips
import numpy as np
import pytest
import timm
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.regression import mean_absolute_error
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchvision.models import alexnet, vgg16
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

from benchmarks.evaluation.metrics.distances import KernelMMD, frechet_distance
from benchmarks.evaluation.metrics.lpips import LPIPS, LPIPSNet
from benchmarks.evaluation.metrics.psnr_ssim import PSNR, SSIM
from seppo_core.judging.judges.dynamic_degree import dynamic_degree, load
from seppo_core.judging.preprocess import CLIP_MEAN, CLIP_STD
from seppo_core.judging.vbench_consistency import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackgroundConsistency,
    SubjectConsistency,
    TemporalFlickering,
    clip_input,
    dino_input,
)
from seppo_core.judging.vit import DinoViT
from seppo_video.frames import write_clip
from tests.benchmarks.scorers.layouts_by_hand import clip_shapes
from tests.benchmarks.scorers.layouts_by_hand import random_state as random_clip
from tests.benchmarks.video_metrics.clips import clip, random_state
from tests.benchmarks.video_metrics.test_consistency import TOWER, tower_config
from tests.parity.open_clip_models import theirs as open_clip_of

pytestmark = pytest.mark.parity
Compare = Callable[[str, str, Tensor, Tensor, float], None]


def planes(frames: Tensor) -> list[np.ndarray]:
    """(h, w, 3) in [0, 1], float64."""
    return [frame.permute(1, 2, 0).double().numpy() / 255 for frame in frames]


def test_psnr(compare: Compare):
    x, y = clip(3, 64, 80, 1), clip(3, 64, 80, 2)
    theirs = [peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(planes(x), planes(y), strict=True)]
    compare("psnr", "scikit-image", PSNR().compare(x, y), torch.tensor(theirs), 1e-5)


def test_ssim(compare: Compare):
    x, y = clip(3, 64, 80, 1), clip(3, 64, 80, 2)
    x[0] = y[0] // 2 + 30
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    theirs = [structural_similarity(a, b, channel_axis=2, **options) for a, b in zip(planes(x), planes(y), strict=True)]
    compare("ssim", "scikit-image", SSIM().compare(x, y), torch.tensor(theirs), 1e-6)


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
    x, y = (clip(2, 64, 96, seed) for seed in (1, 2))
    metric = LPIPS(ours, (), net)
    with torch.no_grad():
        expected = theirs(*(frames.float() / 127.5 - 1 for frames in (x, y))).flatten()
    compare(metric.column, "lpips", metric.compare(x, y), expected, 1e-6)


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
    compare("kernel distance", "clean-fid", ours, exact(theirs), 1e-8)
    metric = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=50, normalize=True)
    metric.update(x.view(50, 3, 2, 2), real=True)
    metric.update(y.view(50, 3, 2, 2), real=False)
    compare("kernel distance", "torchmetrics", ours, metric.compute()[0].double(), 1e-6)


def test_flickering(compare: Compare):
    frames = clip(5)
    error = mean_absolute_error(frames[1:].double(), frames[:-1].double())
    ours = TemporalFlickering().measure(frames)["temporal_flickering"]
    compare("temporal_flickering", "torchmetrics (mean error)", exact(ours), (255 - error) / 255, 1e-9)


def dino_pixels(frames: Tensor) -> Tensor:
    """The transforms as VBench composes them, on frames as it holds them: floating point from 0 to 255."""
    return Normalize(IMAGENET_MEAN, IMAGENET_STD)(Resize(224, antialias=False)(frames.float()) / 255)


def clip_pixels(frames: Tensor) -> Tensor:
    middle = Compose([Resize(224, InterpolationMode.BICUBIC, antialias=False), CenterCrop(224)])(frames.float()) / 255
    return Normalize(CLIP_MEAN, CLIP_STD)(middle)


@pytest.mark.parametrize("size", [(256, 256), (120, 251), (300, 225)])
def test_vbench_framing(compare: Compare, size):
    frames = clip(2, *size)
    compare("subject consistency's pixels", "torchvision", dino_input(frames), dino_pixels(frames), 1e-5)
    compare("background consistency's pixels", "torchvision", clip_input(frames), clip_pixels(frames), 1e-5)


def in_a_loop(features: Tensor) -> Tensor:
    """VBench's formula, frame after frame."""
    total = 0.0
    for i in range(1, len(features)):
        former = F.cosine_similarity(features[i], features[i - 1], dim=0).item()
        first = F.cosine_similarity(features[i], features[0], dim=0).item()
        total += (max(0.0, former) + max(0.0, first)) / 2
    return exact(total / (len(features) - 1))


def cubic(size: int, learned: int = 14) -> np.ndarray:
    """(size, learned): bicubic weights of DINO's stretched positions, as for 0.1 of a patch more; a = -0.75."""

    def weight(d: float) -> float:
        a, d = -0.75, abs(d)
        return ((a + 2) * d - (a + 3)) * d * d + 1 if d <= 1 else ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    table = np.zeros((size, learned))
    for i in range(size):
        place = (i + 0.5) * learned / (size + 0.1) - 0.5
        for near in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            table[i, min(max(near, 0), learned - 1)] += weight(place - near)
    return table


@torch.no_grad()
@pytest.mark.parametrize(("size", "patches"), [((80, 80), (14, 14)), ((64, 96), (14, 21))])
def test_subject_consistency(compare: Compare, size, patches):
    """timm's ViT at reduced width; for wide frames its positions are stretched by hand."""
    options = {"patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0}
    square = timm.models.VisionTransformer(img_size=224, **options)
    shapes = {key: tuple(value.shape) for key, value in square.state_dict().items()}
    state = {key: value.float() for key, value in random_state(shapes).items()}
    ours = DinoViT(width=24, depth=2, heads=3)
    ours.load_state_dict(state)
    theirs = timm.models.VisionTransformer(img_size=tuple(16 * count for count in patches), **options).eval()
    grid = state["pos_embed"][0, 1:].reshape(14, 14, 24).double().numpy()
    if patches != (14, 14):
        grid = np.einsum("ih,jw,hwd->ijd", cubic(patches[0]), cubic(patches[1]), grid)
    positions = torch.cat([state["pos_embed"][0, :1], torch.from_numpy(grid).float().reshape(-1, 24)])
    theirs.load_state_dict({**state, "pos_embed": positions[None]})
    frames = clip(4, *size)
    frames[2] = frames[2].flip(-1)
    metric = SubjectConsistency(ours, ())
    expected = in_a_loop(theirs(dino_pixels(frames)))
    assert 0.05 < expected < 0.999
    found = exact(metric.measure(frames)[metric.column])
    compare(metric.column, "timm on torchvision pixels, a loop", found, expected, 1e-5)


@torch.no_grad()
def test_background_consistency(compare: Compare, tmp_path):
    state = {key: value.float() for key, value in random_clip(clip_shapes(TOWER)).items()}
    torch.save(state, tmp_path / "model.pt")
    metric = BackgroundConsistency.load(tmp_path / "model.pt", config=tower_config())
    frames = clip(4, 50, 64)
    frames[2] = frames[2].flip(-1)
    expected = in_a_loop(open_clip_of(TOWER, state).encode_image(clip_pixels(frames)))
    assert 0.05 < expected < 0.999
    found = exact(metric.measure(frames)[metric.column])
    compare(metric.column, "open_clip_torch on torchvision pixels, a loop", found, expected, 1e-5)


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

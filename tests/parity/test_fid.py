"""FID and KID with each named resize, beside torch-fidelity, pytorch-fid, clean-fid and torchvision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import inception

from benchmarks.evaluation.metrics.fid_features import InceptionFeatures
from benchmarks.evaluation.metrics.networks.inception import FIDInception
from benchmarks.evaluation.metrics.resize import Resize, inception_input
from tests.benchmarks.video_metrics import by_hand
from tests.benchmarks.video_metrics.clips import clip, random_state
from tests.parity.set_features import Compare, compare_columns, two_sets

pytestmark = pytest.mark.parity


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


Features = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def torch_fidelity(published, tmp_path_factory) -> Features:
    extractors = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    counters = {
        key.replace("running_var", "num_batches_tracked"): torch.tensor(0) for key in published if "_var" in key
    }
    torch.save({key: value.float() for key, value in published.items()} | counters, path)
    net = extractors.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
    )
    return lambda frames: net(frames)[0]


@pytest.fixture(scope="module")
def pytorch_fid(published) -> Callable[..., nn.Module]:
    """Their network, with their own resizing and scaling unless told otherwise."""
    theirs = pytest.importorskip("pytorch_fid.inception")
    state = {key: value.float() for key, value in published.items()}

    def made(**options: bool) -> nn.Module:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nn.Module, "load_state_dict", _lenient(nn.Module.load_state_dict))
            patch.setattr(theirs, "load_state_dict_from_url", lambda *args, **options: state)
            return theirs.InceptionV3(**options).eval()

    return made


def _lenient(load: Callable) -> Callable:
    """The published file has counters that say nothing, the random one has none."""
    return lambda module, state, *args, **options: load(module, state, strict=False)


def clean_pixels(frames: Tensor) -> Tensor:
    """clean-fid's resizing, frame by frame, 0 to 255."""
    resize = pytest.importorskip("cleanfid.resize").make_resizer("PIL", False, "bicubic", (299, 299))
    return torch.stack([torch.from_numpy(resize(x.permute(1, 2, 0).numpy())).permute(2, 0, 1) for x in frames])


def relative(compare: Compare, name: str, against: str, ours: Tensor, theirs: Tensor) -> None:
    compare(name, f"{against} (relative)", ours / theirs.std(), theirs / theirs.std(), 1e-4)


@torch.no_grad()
def test_networks(compare: Compare, ours, torch_fidelity, pytorch_fid):
    frames = clip(2, 90, 120)
    name = "Inception features"
    relative(compare, name, "torch-fidelity", ours(inception_input(frames, "tf1")), torch_fidelity(frames))
    rows = pytorch_fid()(frames.float() / 255)[0].flatten(1)
    relative(compare, name, "pytorch-fid", ours(inception_input(frames, "pytorch_fid")), rows)


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
    frames = clip(1, *size)
    values = inception_input(frames, "clean") * 128 + 128
    compare("FID's resize, clean (of 255)", "clean-fid", values, clean_pixels(frames), 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("resize", ["clean", "pytorch_fid", "tf1"])
def test_from_frames_to_distances(compare: Compare, ours, torch_fidelity, pytorch_fid, resize: Resize):
    """Two clips of two frames against two darker ones."""
    if resize == "clean":
        bare = pytorch_fid(resize_input=False, normalize_input=False)
        against, theirs = "clean-fid's pixels", lambda x: bare((clean_pixels(x) - 128) / 128)[0].flatten(1)
        against += ", pytorch-fid's network"
    elif resize == "pytorch_fid":
        net = pytorch_fid()
        against, theirs = "pytorch-fid's pixels and network", lambda x: net(x.float() / 255)[0].flatten(1)
    else:
        against, theirs = "torch-fidelity's pixels and network", torch_fidelity
    compare_columns(compare, InceptionFeatures(ours, (), resize), theirs, two_sets(2), against, 1e-4)

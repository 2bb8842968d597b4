"""StyleGAN-V's detector is a program of its own: what it is given, with a stand-in of the same signature."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.evaluation.metrics.fvd_features import TorchScriptI3DFeatures
from tests.benchmarks.video_metrics.clips import clip


class Detector(nn.Module):
    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        flags = torch.tensor([float(rescale), float(resize), float(return_features)])
        return torch.cat([x.mean((2, 3, 4))[0], flags])[None]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_bytes_go_in_and_the_program_does_the_rest(tmp_path):
    torch.jit.save(torch.jit.script(Detector()), tmp_path / "i3d_torchscript.pt")
    features = TorchScriptI3DFeatures.load(tmp_path, frames=9)
    frames = clip(9)
    assert features.column == "i3d[stylegan-v-original,9f]" and list(features.files) == ["i3d_torchscript.pt"]
    expected = torch.cat([frames.float().mean((0, 2, 3)), torch.ones(3)])[None]
    torch.testing.assert_close(features.features(frames), expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match="9 are expected"):
        features.features(clip(10))

"""PSNR and SSIM, frame by frame, with the constants that FVD papers report them with."""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from seppo_core.judging.metric import PairedMetric
from seppo_core.judging.video_pixels import Frames, unit

PSNR_CAP = 100.0  # dB, where the mean squared error is below 1e-10
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(frames: Frames, reference: Frames) -> Float[Tensor, " f"]:
    """-10 log10(MSE) of each frame on [0, 1] RGB, in dB; 100 for equal frames.

    The mean over frames is not the PSNR of the pooled error, which some libraries compute: the logarithm is concave.
    """
    error = reduce((unit(frames).double() - unit(reference).double()).square(), "f c h w -> f", "mean")
    return torch.where(error < 1e-10, PSNR_CAP, -10 * error.clamp(min=1e-10).log10())


def ssim(frames: Frames, reference: Frames) -> Float[Tensor, " f"]:
    """Structural similarity of each frame (Wang et al. 2004, eq. 13), mean over the map and the three channels.

    Gaussian window of 11×11 with σ = 1.5, K = (0.01, 0.03), L = 1 on [0, 1] RGB, valid region only, population
    variances, no downsampling, float64: skimage's `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.
    Raises ValueError for frames smaller than the window.
    """
    if min(frames.shape[-2:]) < WINDOW:
        raise ValueError(f"frames of {tuple(frames.shape[-2:])} pixels; SSIM's window needs at least {WINDOW}")
    x, y = unit(frames).double(), unit(reference).double()
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    brightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return reduce(brightness * structure, "f c h w -> f", "mean")


def _blur(x: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f 3 h-10 w-10"]:
    """The Gaussian mean at every place where the window fits; one direction after the other."""
    places = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-places.square() / (2 * SIGMA**2))
    kernel = (weights / weights.sum()).expand(3, 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, kernel, groups=3), kernel.mT, groups=3)


class PSNR(PairedMetric):
    """Peak signal-to-noise ratio in dB; see `psnr`."""

    name = "psnr"

    def __init__(self) -> None:
        super().__init__(nn.Module(), (), {"cap": PSNR_CAP, "pooled": False})

    def compare_frames(self, frames: Frames, reference: Frames) -> Float[Tensor, " f"]:
        return psnr(frames, reference)


class SSIM(PairedMetric):
    """Structural similarity, at most 1; see `ssim`."""

    name = "ssim"

    def __init__(self) -> None:
        super().__init__(nn.Module(), (), {"window": WINDOW, "sigma": SIGMA, "k1": K1, "k2": K2})

    def compare_frames(self, frames: Frames, reference: Frames) -> Float[Tensor, " f"]:
        return ssim(frames, reference)

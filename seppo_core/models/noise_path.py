"""The noising processes that a model was trained on; all affine, x_t = α(t) x_0 + σ(t) noise."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from diffusers.schedulers import SchedulerMixin
from jaxtyping import Float, Num
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample"]


class NoisePath(ABC):
    """How x_t is made of x_0 and noise, and what the denoiser is to predict of them.

    Nothing here draws: timesteps are computed from uniforms and noise is handed in, so that every draw can be keyed by
    the caller. `t`, (b,), is in the scheduler's own units, 0..1000.
    """

    @abstractmethod
    def timesteps(self, u: Float[Tensor, " b"]) -> Num[Tensor, " b"]:
        """Timesteps for uniforms `u` in [0, 1)."""

    @abstractmethod
    def coefficients(self, t: Num[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """α and σ at `t`, each (b,), float64."""

    @abstractmethod
    def target(
        self, x_0: Float[Tensor, " b *shape"], noise: Float[Tensor, " b *shape"], t: Num[Tensor, " b"]
    ) -> Float[Tensor, " b *shape"]:
        """The right answer of the denoiser at x_t."""

    @abstractmethod
    def recover(
        self, x_t: Float[Tensor, " b *shape"], prediction: Float[Tensor, " b *shape"], t: Num[Tensor, " b"]
    ) -> Float[Tensor, " b *shape"]:
        """x_0 from x_t and the denoiser's answer: the inverse of `target`."""

    def add_noise(
        self, x_0: Float[Tensor, " b *shape"], noise: Float[Tensor, " b *shape"], t: Num[Tensor, " b"]
    ) -> Float[Tensor, " b *shape"]:
        """x_t = α x_0 + σ noise, in x_0's dtype."""
        alpha, sigma = self._spread(t, x_0)
        return alpha * x_0 + sigma * noise

    def clean_scale(self, t: Num[Tensor, " b"]) -> Float[Tensor, " b"]:
        """|∂x_0 / ∂prediction| at `t`, float64: what a residual of the prediction is in terms of x_0."""
        one = torch.ones(len(t), 1, dtype=torch.float64, device=t.device)
        return self.recover(torch.zeros_like(one), one, t).abs()[:, 0]

    def weight(self, t: Num[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Factor on the mean squared error at `t`, float32; ones unless a path says otherwise."""
        return torch.ones(t.shape, device=t.device)

    def _spread(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ in the dtype and on the device of `like`, shaped (b, 1, ...) to multiply it."""
        alpha, sigma = self.coefficients(t)
        shape = (-1,) + (1,) * (like.ndim - 1)
        return alpha.to(like).view(shape), sigma.to(like).view(shape)


@dataclass(frozen=True, eq=False)
class DiffusionNoisePath(NoisePath):
    """A variance-preserving diffusion with discrete timesteps: α² = alphas_cumprod[t], σ² = 1 − α² (DDPM, 2020).

    `min_snr_gamma` weights the error by min(SNR, γ) in terms of x_0 (Min-SNR-γ, Hang et al., arXiv 2303.09556, 2023).
    A zero-terminal-SNR schedule (arXiv 2305.08891, 2024) ends at α = 0; nothing here divides by it.
    """

    alphas_cumprod: Float[Tensor, " T"]
    prediction: Prediction
    min_snr_gamma: float | None = None
    _held: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_scheduler(cls, scheduler: SchedulerMixin, min_snr_gamma: float | None = None) -> "DiffusionNoisePath":
        """The path that a diffusers scheduler belongs to; ValueError for flow matching and unknown predictions."""
        name = type(scheduler).__name__
        # asked of the config alone: the tensor is an ordinary attribute of every scheduler built on betas
        if "beta_schedule" not in scheduler.config or scheduler.config.get("use_flow_sigmas"):
            raise ValueError(f"{name} is not built on betas; use FlowNoisePath for a flow-matching model")
        return cls(scheduler.alphas_cumprod.double(), scheduler.config.prediction_type, min_snr_gamma)

    def __post_init__(self):
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(
                f"prediction_type={self.prediction!r} is not a diffusion path's; "
                'known are "epsilon", "v_prediction" and "sample"'
            )
        if self.min_snr_gamma is not None and not self.min_snr_gamma > 0:
            raise ValueError(f"min_snr_gamma={self.min_snr_gamma} must be above 0; 5 is usual")
        # some families ship float64; float32 would lose digits of σ² = 1 − α² where α is near 1
        object.__setattr__(self, "alphas_cumprod", self.alphas_cumprod.double())

    def timesteps(self, u: Float[Tensor, " b"]) -> Num[Tensor, " b"]:
        count = len(self.alphas_cumprod)
        return (u.double() * count).long().clamp(max=count - 1)

    def coefficients(self, t: Num[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        # copied to a device once: each copy of what is not pinned waits for all that a GPU still has to do
        if t.device not in self._held:
            self._held[t.device] = self.alphas_cumprod.to(t.device)
        alpha_squared = self._held[t.device][t.long()]
        return alpha_squared.sqrt(), (1 - alpha_squared).sqrt()

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return x_0
        alpha, sigma = self._spread(t, x_0)
        return alpha * noise - sigma * x_0

    def recover(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """x_0; zeros if ε is predicted and α = 0, since neither x_t nor ε then depends on x_0."""
        if self.prediction == "sample":
            return prediction
        alpha, sigma = self._spread(t, x_t)
        if self.prediction == "v_prediction":
            return alpha * x_t - sigma * prediction
        known = alpha > 0
        return torch.where(known, (x_t - sigma * prediction) / torch.where(known, alpha, 1), 0)

    def weight(self, t: Num[Tensor, " b"]) -> Float[Tensor, " b"]:
        """min(SNR, γ) times what turns the prediction's squared error into that of x_0; ones without γ.

        ε: min(SNR, γ) / SNR, and its limit 1 at SNR 0. v: min(SNR, γ) / (SNR + 1), 0 at SNR 0. x_0: min(SNR, γ).
        """
        if self.min_snr_gamma is None:
            return super().weight(t)
        alpha, sigma = self.coefficients(t)
        signal, noise = alpha**2, sigma**2
        # min(SNR, γ) · σ², which needs no division; 1 / (SNR + 1) is σ²
        clipped = torch.minimum(signal, self.min_snr_gamma * noise)
        if self.prediction == "v_prediction":
            return clipped.float()
        whole = signal if self.prediction == "epsilon" else noise
        limit = 1.0 if self.prediction == "epsilon" else self.min_snr_gamma
        positive = whole > 0
        return torch.where(positive, clipped / torch.where(positive, whole, 1), limit).float()


@dataclass(frozen=True, eq=False)
class FlowNoisePath(NoisePath):
    """Rectified flow: x_t = (1 − σ) x_0 + σ noise, target noise − x_0, t = 1000 σ (arXiv 2209.03003, 2022).

    `density` is that of σ before the shift: uniform, or logit-normal with `mean` and `std` of the logit (SD3, arXiv
    2403.03206, 2024). `shift` s moves it towards noise for large latents: σ' = s σ / (1 + (s − 1) σ).
    """

    density: Literal["uniform", "logit_normal"] = "uniform"
    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def __post_init__(self):
        if self.density not in ("uniform", "logit_normal"):
            raise ValueError(f'density={self.density!r} is not known; use "uniform" or "logit_normal"')
        if not self.std > 0:
            raise ValueError(f"std={self.std} must be above 0; 1 is usual")
        if not self.shift > 0:
            raise ValueError(f"shift={self.shift} must be above 0; 1 leaves the density as it is")

    def timesteps(self, u: Float[Tensor, " b"]) -> Num[Tensor, " b"]:
        sigma = u.double()
        if self.density == "logit_normal":
            # the inverse of the normal distribution function is −∞ at u = 0, which the sigmoid takes to 0
            sigma = torch.sigmoid(self.mean + self.std * torch.special.ndtri(sigma))
        sigma = self.shift * sigma / (1 + (self.shift - 1) * sigma)
        return (1000 * sigma).float()

    def coefficients(self, t: Num[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        sigma = t.double() / 1000
        return 1 - sigma, sigma

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - x_0

    def recover(self, x_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        _, sigma = self._spread(t, x_t)
        return x_t - sigma * prediction

"""SPIN-Diffusion."""

from seppo_core.config.methods.spin import SpinConfig
from seppo_core.methods.contrastive import Logistic


class Spin(SpinConfig, Logistic):
    """SPIN-Diffusion (arXiv 2402.10210, 2024): against the newest snapshot's own samples, s = +1."""

"""Diffusion-DPO."""

from seppo_core.config.methods.dpo import DpoConfig
from seppo_core.methods.contrastive import Logistic


class Dpo(DpoConfig, Logistic):
    """Diffusion-DPO (arXiv 2311.12908, 2023), eq. 14: human pairs, the initial weights as reference, s = +1."""

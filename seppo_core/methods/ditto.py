"""DITTO."""

from seppo_core.config.methods.ditto import DittoConfig
from seppo_core.methods.contrastive import Logistic


class Ditto(DittoConfig, Logistic):
    """After DITTO (arXiv 2406.00888, 2024): against the base's own samples, s = +1."""

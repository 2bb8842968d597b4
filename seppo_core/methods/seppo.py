"""SePPO."""

from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.methods.contrastive import Anchored, Logistic


class Seppo(SeppoConfig, Anchored, Logistic):
    """SePPO (arXiv 2410.05255, 2024): against the reference's own samples, the anchor deciding each sign."""

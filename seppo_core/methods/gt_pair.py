"""Reg-DPO with GT-Pair."""

from seppo_core.config.methods.gt_pair import GtPairConfig
from seppo_core.methods.contrastive import Logistic


class GtPair(GtPairConfig, Logistic):
    """Reg-DPO on GT-Pairs (arXiv 2511.01450, 2025): −log σ(−β(σ_w − σ_r)) + λ·p_w, λ being `sft_weight`; s = +1."""

"""Anchor validity: whether the sign s, which SePPO takes from a denoising error, agrees with a judge of the samples."""

"""Metrics of clips on torch: paired (PSNR, SSIM, LPIPS), of sets (FID, KID, FVD, KVD), of one clip (VBench's)."""

from seppo_core.io.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

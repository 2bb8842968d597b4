"""Metrics of clips on torch: paired (PSNR, SSIM, LPIPS), of sets (FID, KID, FVD, KVD), of one clip (VBench's)."""

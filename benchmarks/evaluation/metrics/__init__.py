"""Metrics of clips on torch: paired (PSNR, SSIM, LPIPS), of sets (FID, KID, FVD, KVD), of one clip (VBench's)."""

from seppo_core.io.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "base": ["Metric", "PairedMetric", "ClipMetric", "FeatureExtractor"],
        "pixels": ["even_frames"],
        "paired": ["PSNR", "SSIM", "psnr", "ssim"],
        "lpips": ["LPIPS"],
        "fid_features": ["InceptionFeatures"],
        "fvd_features": ["I3DFeatures", "TorchScriptI3DFeatures"],
        "videomae_features": ["VideoMAEFeatures"],
        "feature_sets": ["FeatureSet", "FeatureCache"],
        "distances": ["frechet_distance", "kernel_distance"],
        "set_metrics": ["set_column", "set_distance", "compare_sets", "SetComparison", "SetEstimate"],
        "consistency": ["TemporalFlickering", "SubjectConsistency", "BackgroundConsistency"],
        "per_frame": ["PerFrame"],
        "catalogue": ["METRICS", "load_metric", "metric_entry", "diagnose_metrics"],
    },
)

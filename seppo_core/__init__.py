"""The ground of SePPO: losses, paths, sampling, references, training. No model family, no data set."""

from seppo_core.io.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "methods.losses": ["Errors", "anchor_sign", "preference_metrics", "seppo_loss", "sft_loss"],
        "models.noise_path": ["DiffusionNoisePath", "FlowNoisePath"],
        "models.adapter": ["Adapter", "Condition", "CropInfo", "Posterior"],
        "models.sampling": ["make_scheduler", "sample"],
        "methods.reference": [
            "FrozenCopy",
            "LoraView",
            "Reference",
            "ReferencePool",
            "SwappedWeightsReference",
            "make_reference",
        ],
        "methods.objectives": ["Method", "Seppo", "Sft"],
        "methods.step": ["Batch", "pair_errors", "item_errors"],
        "models.tuning": ["tune_full", "tune_lora"],
        "cache.reader": ["WinnerCache"],
        "training.trainer": ["Trainer"],
        "config.loader": ["load_config", "resolved_yaml"],
    },
)

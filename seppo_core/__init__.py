"""The ground of SePPO: losses, paths, sampling, references, training. No model family, no data set."""

from seppo_core.io.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "io.rng": ["keyed_generator"],
        "methods.errors": ["Errors", "anchor_sign", "flip", "preference_metrics", "squared_error"],
        "methods.contrastive": ["seppo_loss"],
        "methods.guard": ["guard_scale", "scale_gradient"],
        "methods.method": ["Method"],
        "methods.ditto": ["Ditto"],
        "methods.dpo": ["Dpo"],
        "methods.kto": ["Kto", "LabelledErrors", "kto_loss"],
        "methods.mapo": ["Mapo", "mapo_loss", "mapo_push"],
        "methods.seppo": ["Seppo"],
        "methods.sft": ["Sft", "sft_loss"],
        "methods.spin": ["Spin"],
        "methods.sspo": ["Sspo", "sspo_loss"],
        "models.noise_path": ["DiffusionNoisePath", "FlowNoisePath", "NoisePath"],
        "models.adapter": ["Adapter", "Condition", "CropInfo", "Posterior"],
        "models.sampling": ["make_scheduler", "sample", "sample_steps"],
        "methods.reference": [
            "FrozenCopy",
            "LoraView",
            "Reference",
            "ReferencePool",
            "SwappedWeightsReference",
            "make_reference",
        ],
        "methods.step": ["Batch", "pair_errors", "item_errors"],
        "models.tuning": ["tune_full", "tune_lora"],
        "cache.reader": ["WinnerCache"],
        "training.setup": ["ModelParts", "RunParts", "build", "build_model", "make_method", "with_method"],
        "training.trainer": ["Trainer"],
        "config.loader": ["load_config", "resolved_yaml"],
    },
)

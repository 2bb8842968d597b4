"""The ground of SePPO: losses, paths, sampling, references, training. No model family, no data set."""

from seppo_core.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "losses": ["Errors", "anchor_sign", "preference_metrics", "seppo_loss", "sft_loss", "squared_error"],
        "path": ["DiffusionPath", "FlowPath"],
        "adapter": ["Adapter", "Condition", "Framing", "Posterior"],
        "sampling": ["make_scheduler", "sample"],
        "reference": ["Exchange", "FrozenCopy", "LoraView", "Reference", "ReferencePool", "make_reference"],
        "methods": ["Method", "Seppo", "Sft"],
        "step": ["Batch", "pair_errors", "winner_errors"],
        "tuning": ["tune_full", "tune_lora"],
        "cache": ["WinnerCache"],
        "trainer": ["Trainer"],
        "config_file": ["load_config", "resolved_yaml"],
    },
)

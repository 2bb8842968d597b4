"""Names of config keys that are not theirs now: old ones, which are still accepted, in files, on the command line and
in folders of older runs; and those of other trainers, which are answered with ours."""

RENAMED = {
    "data.form": "data.supervision",
    "data.winner": "data.pick",
    "method.remember": "method.pool_window",
    "method.anchor_per": "method.anchor_scope",
    "loop.updates": "loop.updates_per_iteration",
    "health.sign": "health.constant_sign",
    "health.collapse": "health.sample_collapse",
    "health.collapse_share": "health.sample_collapse_share",
}
"""Old name of a key -> its name now."""
FIRST = {new: old for old, new in RENAMED.items()}
"""Name of a key now -> its first name, under which it stands in hashes of older versions."""
FOREIGN = {
    "learning_rate": "optimizer.lr",
    "lr_scheduler": "optimizer.schedule",
    "lr_warmup_steps": "optimizer.warmup_updates",
    "use_8bit_adam": "optimizer.name",
    "train_batch_size": "loop.micro_batch_size",
    "gradient_accumulation_steps": "loop.batch_size",
    "max_train_steps": "loop.updates_per_iteration",
    "num_train_epochs": "loop.iterations",
    "epochs": "loop.iterations",
    "checkpointing_steps": "loop.checkpoint_every",
    "resolution": "data.height and data.width",
    "train_data_dir": "data.source",
    "dataset_name": "data.source",
    "proportion_empty_prompts": "data.caption_dropout",
    "pretrained_model_name_or_path": "model.base",
    "output_dir": "run",
    "beta_dpo": "method.beta",
    "lora_rank": "tune.rank",
    "lora_alpha": "tune.alpha",
    "network_dim": "tune.rank",
    "network_alpha": "tune.alpha",
    "validation_prompts": "preview.prompts",
    "validation_steps": "preview.every",
    "num_inference_steps": "reference_samples.steps and preview.steps",
}
"""Name of a setting in diffusers' scripts, Diffusion-DPO's, kohya's or SimpleTuner's -> the key that says it here."""
_DEVICE = (
    "the device is chosen by itself, a GPU before the CPU; CUDA_VISIBLE_DEVICES names the GPUs to use, none if empty"
)
NO_KEYS = dict.fromkeys(("device", "devices", "device_id", "device_ids", "gpu_id", "gpu_ids", "cuda"), _DEVICE)
"""Name of a setting of other trainers that no key says here -> what decides it."""

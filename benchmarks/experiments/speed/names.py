"""What there is to compare, by the name that `--only` takes. Without torch, so that `--help` answers at once."""

NAMES = {
    "methods": "an update by method, against supervised fine-tuning",
    "parts": "parts of a SePPO update, and drawing the reference's samples",
    "anchor": "the anchor's sign from 4 further draws, against the loss's own",
    "accumulation": "micro-batches of other sizes at one batch size",
    "checkpointing": "gradient checkpointing on and off",
    "reference": "under a LoRA: the reference as a second LoRA, or a frozen copy",
    "offload": "the reference's weights waiting on the CPU (CUDA)",
    "attention": "attention kernels: SDPA's own choice, each of them, xformers (CUDA)",
    "precision": "float32, TF32 (CUDA), and autocast to bf16 and fp16 (CUDA)",
    "compile": "torch.compile of policy and reference (on a CPU only by --only)",
    "optimizer": "AdamW with moments of 8 bits (CUDA, bitsandbytes)",
    "cache": "cached latents against encoding pictures and captions in every step",
    "loader": "batches made ahead or when asked for, and how long a step waits for them",
}

"""Captions to embeddings, for pipelines with one text encoder whose last hidden state conditions the denoiser."""

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@torch.no_grad()
def encode_text(
    tokenizer: PreTrainedTokenizerBase, text_encoder: PreTrainedModel, prompts: list[str]
) -> Float[Tensor, "b tokens d"]:
    """Embeddings of `prompts`, padded and cut to the tokenizer's limit, in the encoder's dtype.

    The same as the pipeline's own `encode_prompt`, which would also tokenise without the limit to log what was cut.
    """
    tokens = tokenizer(
        prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    # Stable Diffusion's encoders attend to the padding, unless their config says otherwise
    masked = text_encoder.config.to_dict().get("use_attention_mask", False)
    mask = tokens.attention_mask.to(text_encoder.device) if masked else None
    return text_encoder(tokens.input_ids.to(text_encoder.device), attention_mask=mask)[0]

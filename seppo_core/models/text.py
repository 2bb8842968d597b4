"""Captions to embeddings, as the text encoders of diffusers' pipelines are used."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TokenCount(NamedTuple):
    """How many tokens prompts have, and how many of them a tokenizer was asked to keep."""

    tokenizer: PreTrainedTokenizerBase
    tokens: list[int]
    limit: int


_counts: ContextVar[list[TokenCount] | None] = ContextVar("token counts", default=None)


@contextmanager
def counting_tokens() -> Iterator[list[TokenCount]]:
    """Gives a list to which every `tokenize` within it adds how long its prompts are, whoever calls it for what.

    So what is counted is what the encoders were given, cleaned and with a pipeline's instruction.
    """
    counts: list[TokenCount] = []
    before = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(before)


@torch.no_grad()
def encode_text(
    tokenizer: PreTrainedTokenizerBase, text_encoder: PreTrainedModel, prompts: list[str], length: int | None = None
) -> Float[Tensor, "b tokens d"]:
    """The last layer's embeddings of `prompts`, padded and cut to `length` tokens or to the tokenizer's limit.

    In the encoder's dtype. The same as the pipeline's own `encode_prompt`, which would also tokenise without the limit
    to log what was cut.
    """
    ids, mask = tokenize(tokenizer, prompts, length)
    # Stable Diffusion's encoders, and T5 in some pipelines, attend to the padding unless their config says otherwise
    masked = text_encoder.config.to_dict().get("use_attention_mask", False)
    device = text_encoder.device
    return text_encoder(ids.to(device), attention_mask=mask.to(device) if masked else None)[0]


@torch.no_grad()
def encode_clip(
    tokenizer: PreTrainedTokenizerBase, text_encoder: PreTrainedModel, prompts: list[str], length: int | None = None
) -> tuple[Float[Tensor, "b tokens d"], Float[Tensor, " b *rest"]]:
    """CLIP as SDXL and its successors use it: the layer before the last, and the model's first output.

    That output is the projected embedding of the whole caption, (b, p), for a `CLIPTextModelWithProjection`.
    """
    ids, _ = tokenize(tokenizer, prompts, length)
    outputs = text_encoder(ids.to(text_encoder.device), output_hidden_states=True)
    return outputs.hidden_states[-2], outputs[0]


def encode_clip_pair(
    pipeline: DiffusionPipeline, prompts: list[str]
) -> tuple[Float[Tensor, "b tokens d"], Float[Tensor, "b p"]]:
    """The two CLIPs of a pipeline side by side, and the second one's embedding of the whole caption, as SDXL has them.

    The pipeline gives zeros for a missing negative prompt where its config says so, never for a caption; here "" is the
    missing one.
    """
    first, _ = encode_clip(pipeline.tokenizer, pipeline.text_encoder, prompts)
    second, pooled = encode_clip(pipeline.tokenizer_2, pipeline.text_encoder_2, prompts)
    text = torch.cat([first, second], dim=-1)
    if pipeline.config.force_zeros_for_empty_prompt:
        empty = [index for index, prompt in enumerate(prompts) if not prompt]
        text[empty], pooled[empty] = 0, 0
    return text, pooled


def clip_pair_shapes(pipeline: DiffusionPipeline) -> dict[str, Tensor]:
    """Empty tensors like one caption's "text" and "pooled" by `encode_clip_pair`."""
    first, second = pipeline.text_encoder.config, pipeline.text_encoder_2.config
    return {
        "text": torch.empty(1, pipeline.tokenizer.model_max_length, first.hidden_size + second.hidden_size),
        "pooled": torch.empty(1, second.projection_dim),
    }


def tokenize(
    tokenizer: PreTrainedTokenizerBase, prompts: list[str], length: int | None = None
) -> tuple[Int[Tensor, "b tokens"], Int[Tensor, "b tokens"]]:
    """Token ids and attention mask, padded and cut to `length` or to the tokenizer's limit."""
    length = tokenizer.model_max_length if length is None else length
    if (counts := _counts.get()) is not None:
        counts.append(TokenCount(tokenizer, _token_counts(tokenizer, prompts), length))
    tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return tokens.input_ids, tokens.attention_mask


def too_long(tokenizer: PreTrainedTokenizerBase, prompts: list[str], length: int | None = None) -> list[int]:
    """Positions of the prompts that have more than `length` tokens, or more than the tokenizer's limit."""
    length = tokenizer.model_max_length if length is None else length
    return [index for index, count in enumerate(_token_counts(tokenizer, prompts)) if count > length]


def _token_counts(tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[int]:
    # tokenised without a limit, the library would say of each that it is too long
    return [len(ids) for ids in tokenizer(prompts, verbose=False).input_ids]

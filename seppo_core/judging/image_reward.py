"""ImageReward v1.0: BLIP reads prompt and picture together, an MLP gives the reward (Xu et al. 2023)."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import (
    BertTokenizerFast,
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    PreTrainedTokenizerBase,
)

from seppo_core.judging.aesthetic import mlp_head
from seppo_core.judging.base import Scorer
from seppo_core.judging.checkpoint_keys import blip_vision_state, without_prefix
from seppo_core.judging.preprocess import Framing
from seppo_core.judging.weights import Source, fill, locate, read_tensors

WEIGHTS = Source(
    part="weights",
    hub="THUDM/ImageReward",
    files=(("ImageReward.safetensors",), ("ImageReward.pt",)),
    size=1_793_000_000,
    licence="Apache-2.0",
)
TOKENIZER = Source(
    part="tokenizer",
    hub="google-bert/bert-base-uncased",
    files=(("vocab.txt",),),
    size=231_508,
    licence="Apache-2.0",
)

REWARD_MEAN = 0.16717362830052426
REWARD_SD = 1.0333394966054072
"""Moments of the raw reward over the authors' data; they are in their code and not in the checkpoint."""
PROMPT_TOKENS = 35
"""Number of BERT tokens, start and end marks included: longer prompts lose their end."""


def blip_vision() -> BlipVisionConfig:
    """ViT-L/16 at 224 pixels, 303 million parameters."""
    return BlipVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=16,
        layer_norm_eps=1e-6,
        hidden_act="gelu",
    )


def blip_text() -> BlipTextConfig:
    """BERT base with attention to the picture in every layer. `is_decoder` only makes that attention exist."""
    return BlipTextConfig(
        vocab_size=30524,
        hidden_size=768,
        encoder_hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=512,
        layer_norm_eps=1e-12,
        hidden_act="gelu",
        is_decoder=True,
    )


class RewardModel(nn.Module):
    """The three networks one after the other; built on the meta device and filled from a checkpoint."""

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig):
        super().__init__()
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        self.head = mlp_head(text.hidden_size)

    def forward(
        self, pixels: Float[Tensor, "n 3 h w"], ids: Int[Tensor, "n t"], mask: Int[Tensor, "n t"]
    ) -> Float[Tensor, " n"]:
        seen = self.vision(pixel_values=pixels).last_hidden_state
        # is_decoder=False: the prompt is read in both directions
        read = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device),
            is_decoder=False,
        ).last_hidden_state
        return self.head(read[:, 0])[:, 0]


class ImageReward(Scorer):
    """The reward, normalised by the authors' moments: about 0 on average, 1 one standard deviation."""

    name: ClassVar[str] = "image_reward"
    model: RewardModel
    token_limit = PROMPT_TOKENS

    def __init__(self, model: RewardModel, tokenizer: PreTrainedTokenizerBase, framing: Framing, files: Sequence[Path]):
        super().__init__(model, files, {})
        self.tokenizer = tokenizer
        self.framing = framing

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        tokenizer: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        vision: BlipVisionConfig | None = None,
        text: BlipTextConfig | None = None,
    ) -> "ImageReward":
        """`weights` a file, folder or hub id, `tokenizer` BERT's vocab.txt; `vision` and `text` other sizes."""
        (checkpoint,) = locate(WEIGHTS, weights)
        (vocabulary,) = locate(TOKENIZER, tokenizer)
        with torch.device("meta"):
            model = RewardModel(vision or blip_vision(), text or blip_text())
        fill(model, reward_state(read_tensors(checkpoint)), str(checkpoint), dtype)
        words = BertTokenizerFast.from_pretrained(str(vocabulary.parent), do_lower_case=True)
        framing = Framing("crop", model.vision.config.image_size)
        return cls(model.to(device), words, framing, (checkpoint, vocabulary))

    def score_batch(self, images: list[Image.Image], prompts: list[str]) -> Float[Tensor, " n"]:
        rows = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=PROMPT_TOKENS, return_tensors="pt"
        )
        pixels = self.framing.batch(images).to(self.device, self.dtype)
        rewards = self.model(pixels, rows["input_ids"].to(self.device), rows["attention_mask"].to(self.device))
        return (rewards.float() - REWARD_MEAN) / REWARD_SD

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        return [len(row) for row in self.tokenizer(list(prompts), truncation=False, verbose=False)["input_ids"]]


def reward_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published checkpoint under the names of `RewardModel`.

    BLIP's contrastive projections are in it and not used. Raises ValueError for an unknown key.
    """
    text = without_prefix(state, "blip.text_encoder.")
    vision = blip_vision_state(without_prefix(state, "blip.visual_encoder."))
    head = without_prefix(state, "mlp.layers.")
    parts = {"vision": vision, "text": text, "head": head}
    return {f"{part}.{key}": value for part, tensors in parts.items() for key, value in tensors.items()}

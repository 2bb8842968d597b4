"""PickScore v1: CLIP ViT-H/14 tuned on half a million choices of people (Kirstain et al. 2023)."""

from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig

from seppo_core.judging.checkpoint_keys import clip_h_14
from seppo_core.judging.clip import ClipScorer, load_clip
from seppo_core.judging.preprocess import Framing
from seppo_core.judging.tokenize import CLIP_H_TOKENIZER, Prompts, clip_tokenizer
from seppo_core.judging.weights import Source, locate

WEIGHTS = Source(
    part="weights",
    hub="yuvalkirstain/PickScore_v1",
    files=(("model.safetensors",), ("pytorch_model.bin",)),
    size=3_944_437_764,
    licence="code MIT; the model card states none",
)


class PickScore(ClipScorer):
    """The cosine, as the tables of the SePPO paper have it (there ×100), or scaled as the model's card has it.

    scaled = exp(logit_scale)·cosine; its differences are log odds of one image being chosen over another.
    """

    name: ClassVar[str] = "pickscore"

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        tokenizer: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        scaled: bool = False,
        config: CLIPConfig | None = None,
    ) -> "PickScore":
        """`weights` a file, folder or hub id; `config` another size than the published one."""
        (checkpoint,) = locate(WEIGHTS, weights)
        words, files = clip_tokenizer(tokenizer, CLIP_H_TOKENIZER)
        model = load_clip(checkpoint, config or clip_h_14(), device, dtype)
        framing = Framing("crop", model.config.vision_config.image_size, odd_margin="low")
        limit = model.config.text_config.max_position_embeddings
        return cls(model, Prompts(words, limit), framing, (checkpoint, *files), {"scaled": scaled})

    @property
    def scaled(self) -> bool:
        return bool(self.options["scaled"])

    @property
    def column(self) -> str:
        return "pickscore" if self.scaled else "pickscore_cos"

    def score_batch(self, images: list[Image.Image], prompts: list[str]) -> Float[Tensor, " n"]:
        cosines = self.cosines(images, prompts)
        return cosines * self.model.logit_scale.exp() if self.scaled else cosines

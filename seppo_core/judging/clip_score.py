"""CLIPScore on any CLIP or SigLIP model that transformers loads (Hessel et al. 2021, and the later conventions)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seppo_core.judging.base import Scorer
from seppo_core.judging.clip import features
from seppo_core.judging.preprocess import Framing
from seppo_core.judging.weights import Source, files_of, locate_folder

UNMASKED = ("siglip", "siglip2")
"""Models trained without a mask over the padding, which they read."""


def model_source(hub: str, size: int, licence: str) -> Source:
    return Source("weights", hub, (("config.json", "model.safetensors"),), size, licence, whole=True)


LARGE = model_source("openai/clip-vit-large-patch14", 1_710_466_052, "MIT")
BASE = model_source("openai/clip-vit-base-patch32", 605_109_252, "MIT")
HUGE = model_source("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 3_944_437_764, "MIT")


class CLIPScore(Scorer):
    """scale·max(cosine, 0) of a picture and prefix + prompt; `clamp=False` lets the cosine go below zero.

    | convention | model | scale | clamp | prefix |
    |---|---|---|---|---|
    | torchmetrics (default) | ViT-L/14 | 100 | yes | |
    | Hessel et al. | ViT-B/32 | 2.5 | yes | "A photo depicts " |
    | raw cosine, as beside Diffusion-DPO | ViT-H/14 | 1 | no | |
    """

    name: ClassVar[str] = "clip_score"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        framing: Framing,
        files: Sequence[Path],
        options: dict[str, str | float | bool],
    ):
        super().__init__(model, files, options)
        self.tokenizer = tokenizer
        self.framing = framing
        self.token_limit = model.config.text_config.max_position_embeddings

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        scale: float = 100.0,
        clamp: bool = True,
        prefix: str = "",
        source: Source = LARGE,
    ) -> "CLIPScore":
        """`weights` a folder with model, tokenizer and preprocessor_config.json, or a hub id; None takes `source`."""
        folder = locate_folder(source, weights)
        # transformers reads a .bin with weights_only, too; code that a repository brings is never run
        model = AutoModel.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        config = folder / "preprocessor_config.json"
        if not config.is_file():
            raise FileNotFoundError(f"{folder} has no preprocessor_config.json, which says how pictures are resized")
        framing = Framing.from_config(json.loads(config.read_text(encoding="utf-8")))
        options = {"scale": scale, "clamp": clamp, "prefix": prefix}
        return cls(model.to(device), tokenizer, framing, files_of(folder), options)

    @property
    def column(self) -> str:
        """clip_score, and for another scale, sign or prefix than the default these too."""
        options = [] if self.options["scale"] == 100 else [f"x{self.options['scale']:g}"]
        options += [] if self.options["clamp"] else ["signed"]
        options += ["prefixed"] if self.options["prefix"] else []
        return "_".join([self.name, *options])

    def score_batch(self, images: list[Image.Image], prompts: list[str]) -> Float[Tensor, " n"]:
        pixels = self.framing.batch(images).to(self.device, self.dtype)
        pictures = F.normalize(features(self.model.get_image_features(pixel_values=pixels)).float(), dim=-1)
        texts = F.normalize(features(self.model.get_text_features(**self._rows(prompts))).float(), dim=-1)
        cosines = (pictures * texts).sum(-1)
        return self.options["scale"] * (cosines.clamp(min=0) if self.options["clamp"] else cosines)

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        rows = self.tokenizer(self._prefixed(prompts), truncation=False, verbose=False)["input_ids"]
        return [len(row) for row in rows]

    def _rows(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        rows = self.tokenizer(
            self._prefixed(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.token_limit,
            return_tensors="pt",
        ).to(self.device)
        masked = self.model.config.model_type not in UNMASKED
        return {name: rows[name] for name in ("input_ids", *(["attention_mask"] if masked else []))}

    def _prefixed(self, prompts: Sequence[str]) -> list[str]:
        return [f"{self.options['prefix']}{prompt}" for prompt in prompts]

"""CLIP as a judge: the cosine between a picture's and a prompt's embedding (Radford et al. 2021)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from seppo_core.judging.base import Scorer
from seppo_core.judging.checkpoint_keys import clip_state
from seppo_core.judging.preprocess import Framing
from seppo_core.judging.tokenize import Prompts
from seppo_core.judging.weights import fill, read_tensors


class ClipScorer(Scorer):
    """A scorer that is a function of the cosine in one CLIP model."""

    model: CLIPModel

    def __init__(
        self,
        model: CLIPModel,
        prompts: Prompts,
        framing: Framing,
        files: Sequence[Path],
        options: dict[str, str | float | bool],
    ):
        super().__init__(model, files, options)
        self.prompts = prompts
        self.framing = framing
        self.token_limit = prompts.limit

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        return self.prompts.lengths(prompts)

    def cosines(self, images: list[Image.Image], prompts: list[str]) -> Float[Tensor, " n"]:
        # the frames of a clip share their prompt: each is encoded once
        distinct = list(dict.fromkeys(prompts))
        texts = self.embed_prompts(distinct)[[distinct.index(prompt) for prompt in prompts]]
        return (self.embed_images(images) * texts).sum(-1)

    def embed_images(self, images: list[Image.Image]) -> Float[Tensor, "n d"]:
        """Projected and normalised; float32, since half precision has three digits of a cosine."""
        pixels = self.framing.batch(images).to(self.device, self.dtype)
        return F.normalize(features(self.model.get_image_features(pixel_values=pixels)).float(), dim=-1)

    def embed_prompts(self, prompts: list[str]) -> Float[Tensor, "n d"]:
        """Projected and normalised, float32. No mask: attention is causal and padding follows the mark that is read."""
        ids = self.prompts.ids(prompts).to(self.device)
        return F.normalize(features(self.model.get_text_features(input_ids=ids)).float(), dim=-1)


def features(output: object) -> Tensor:
    """Projected embeddings: transformers 4 returns the tensor, transformers 5 an object around it."""
    return output if isinstance(output, Tensor) else output.pooler_output


def load_clip(path: Path, config: CLIPConfig, device: str | torch.device, dtype: torch.dtype) -> CLIPModel:
    """A CLIP model of `config` from a checkpoint under transformers' or open_clip's names."""
    with torch.device("meta"):
        model = CLIPModel(config)
    return fill(model, clip_state(read_tensors(path)), str(path), dtype).to(device)

"""Human Preference Score v2.0 and v2.1: CLIP ViT-H/14 tuned on rankings of generated images (Wu et al. 2023)."""

from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig

from seppo_core.judging.checkpoint_keys import clip_h_14
from seppo_core.judging.clip import ClipScorer, load_clip
from seppo_core.judging.preprocess import Framing
from seppo_core.judging.tokenize import CLIP_H_TOKENIZER, Prompts, clip_tokenizer, open_clip_clean
from seppo_core.judging.weights import Source, locate

Version = Literal["2.0", "2.1"]

WEIGHTS: dict[Version, Source] = {
    "2.0": Source(
        part="weights",
        hub="xswu/HPSv2",
        files=(("HPS_v2_compressed.pt",),),
        size=1_972_484_501,
        licence="Apache-2.0",
    ),
    "2.1": Source(
        part="weights",
        hub="xswu/HPSv2",
        files=(("HPS_v2.1_compressed.pt",),),
        size=1_972_484_501,
        licence="Apache-2.0",
    ),
}


class HPSv2(ClipScorer):
    """The cosine; published tables have it ×100. Scores of the two versions are not comparable.

    `HPS_v2_1.pt`, which lies in the authors' demo, is v2.0 in spite of its name and is refused as v2.1. The original
    resizes a tensor: antialiased under torchvision 0.17 or newer (`antialias=True`), not so under the versions of the
    time of the paper.
    """

    name: ClassVar[str] = "hpsv2"

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        tokenizer: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        version: Version = "2.0",
        antialias: bool = True,
        config: CLIPConfig | None = None,
    ) -> "HPSv2":
        """`weights` a file, folder or hub id; `config` another size than the published one.

        Raises ValueError for an unknown version, or a file whose name belongs to the other one.
        """
        if version not in WEIGHTS:
            raise ValueError(f"version={version!r} of HPSv2; there are {', '.join(WEIGHTS)}")
        (checkpoint,) = locate(WEIGHTS[version], weights)
        if (named := version_of(checkpoint.name)) not in (None, version):
            raise ValueError(f"{checkpoint.name} holds HPS v{named}, and v{version} was asked for")
        words, files = clip_tokenizer(tokenizer, CLIP_H_TOKENIZER)
        model = load_clip(checkpoint, config or clip_h_14(), device, dtype)
        framing = Framing("letterbox", model.config.vision_config.image_size, antialias=antialias)
        limit = model.config.text_config.max_position_embeddings
        options = {"version": version, "antialias": antialias}
        return cls(model, Prompts(words, limit, open_clip_clean), framing, (checkpoint, *files), options)

    @property
    def column(self) -> str:
        return f"hps_v{self.options['version']}" + ("" if self.framing.antialias else "_noantialias")

    def score_batch(self, images: list[Image.Image], prompts: list[str]) -> Float[Tensor, " n"]:
        return self.cosines(images, prompts)


def version_of(file_name: str) -> Version | None:
    """Which version a published file holds; None for a name that nobody published."""
    published: dict[str, Version] = {
        "HPS_v2_compressed.pt": "2.0",
        "HPS_v2.pt": "2.0",
        "HPS_v2_1.pt": "2.0",
        "HPS_v2.1_compressed.pt": "2.1",
    }
    return published.get(file_name)

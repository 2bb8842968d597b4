"""LAION's aesthetic predictors: a small head on the image embedding of CLIP ViT-L/14 (Schuhmann 2022).

v2 is the MLP `sac+logos+ava1-l14-linearMSE`, the "Aesthetic" of most papers, about 1 to 10. v1 is one linear layer,
`sa_0_4_vit_l_14_linear`; a tenth of it is what VBench calls aesthetic quality. The two never share a column.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPVisionModelWithProjection

from seppo_core.judging.base import Scorer
from seppo_core.judging.checkpoint_keys import clip_l_14, clip_state
from seppo_core.judging.preprocess import Framing
from seppo_core.judging.weights import Source, fill, locate, read_tensors

Version = Literal["v1", "v2"]

HEADS: dict[Version, Source] = {
    "v2": Source(
        part="weights",
        hub=None,
        files=(("sac+logos+ava1-l14-linearMSE.safetensors",), ("sac+logos+ava1-l14-linearMSE.pth",)),
        size=3_711_876,
        licence="Apache-2.0",
        address="github.com/christophschuhmann/improved-aesthetic-predictor",
    ),
    "v1": Source(
        part="weights",
        hub=None,
        files=(("sa_0_4_vit_l_14_linear.safetensors",), ("sa_0_4_vit_l_14_linear.pth",)),
        size=3_900,
        licence="MIT",
        address="github.com/LAION-AI/aesthetic-predictor",
    ),
}
BACKBONE = Source(
    part="backbone",
    hub="openai/clip-vit-large-patch14",
    files=(("model.safetensors",), ("pytorch_model.bin",)),
    size=1_710_466_052,
    licence="MIT",
)


def mlp_head(width: int) -> nn.Sequential:
    """Five linear layers without an activation between them; the gaps in the numbering are dropouts of training.

    ImageReward has the same head.
    """
    drop = nn.Dropout
    return nn.Sequential(
        nn.Linear(width, 1024),
        drop(0.2),
        nn.Linear(1024, 128),
        drop(0.2),
        nn.Linear(128, 64),
        drop(0.1),
        nn.Linear(64, 16),
        nn.Linear(16, 1),
    )


class Aesthetic(Scorer):
    """How well an image would be liked; the prompt is not read."""

    name: ClassVar[str] = "aesthetic"

    def __init__(self, model: nn.ModuleDict, framing: Framing, files: Sequence[Path], options: dict[str, str]):
        super().__init__(model, files, options)
        self.framing = framing

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        backbone: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        version: Version = "v2",
        config: CLIPConfig | None = None,
    ) -> "Aesthetic":
        """`weights` the head's file or its folder, `backbone` a file, folder or hub id of CLIP ViT-L/14.

        Raises ValueError for an unknown version, or a head of the other version.
        """
        if version not in HEADS:
            raise ValueError(f"version={version!r} of the aesthetic score; there are {', '.join(HEADS)}")
        (head_file,) = locate(HEADS[version], weights)
        (clip_file,) = locate(BACKBONE, backbone)
        config = config or clip_l_14()
        tower = vision_tower(clip_file, config, dtype)
        with torch.device("meta"):
            head = mlp_head(config.projection_dim) if version == "v2" else nn.Linear(config.projection_dim, 1)
        state = {key.removeprefix("layers."): value for key, value in read_tensors(head_file).items()}
        model = nn.ModuleDict({"tower": tower, "head": fill(head, state, str(head_file), dtype)}).to(device)
        framing = Framing("crop", config.vision_config.image_size)
        return cls(model, framing, (head_file, clip_file), {"version": version})

    @property
    def column(self) -> str:
        return "aesthetic" if self.options["version"] == "v2" else "aesthetic_v1"

    def score_batch(self, images: list[Image.Image], prompts: list[str]) -> Float[Tensor, " n"]:
        pixels = self.framing.batch(images).to(self.device, self.dtype)
        embedding = F.normalize(self.model["tower"](pixel_values=pixels).image_embeds.float(), dim=-1)
        return self.model["head"](embedding.to(self.dtype))[:, 0]


def vision_tower(path: Path, config: CLIPConfig, dtype: torch.dtype) -> CLIPVisionModelWithProjection:
    """The half of a CLIP checkpoint that looks at pictures."""
    vision = config.vision_config
    vision.projection_dim = config.projection_dim
    with torch.device("meta"):
        tower = CLIPVisionModelWithProjection(vision)
    state = clip_state(read_tensors(path))
    kept = {key: value for key, value in state.items() if key.startswith(("vision_model.", "visual_projection."))}
    return fill(tower, kept, str(path), dtype)

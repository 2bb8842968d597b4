"""Small models of open_clip's with given weights, and pictures resized by torchvision and by transformers."""

import open_clip
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from seppo_core.judging.preprocess import CLIP_MEAN, CLIP_STD
from tests.benchmarks.scorers.fixtures import ClipProcessor
from tests.benchmarks.scorers.layouts_by_hand import TINY, Clip

PROMPTS = [
    "a red cat on the moon",
    "A  PAINTING of an ocean,\n with birds; 8k!!",
    "“Curly” quotes — it’s a dash… and caf\u00c3\u00a9, 日本語, 🙂",
    "salt &amp;amp; pepper &lt;b&gt; don't we'll 12345",
    "very " * 90 + "long",
]
NORMALISE = transforms.Normalize(CLIP_MEAN, CLIP_STD)


def model_config(clip: Clip) -> dict:
    return {
        "embed_dim": clip.embed,
        "vision_cfg": {
            "image_size": clip.image,
            "layers": clip.layers,
            "width": clip.width,
            "head_width": clip.width // clip.heads,
            "patch_size": clip.patch,
        },
        "text_cfg": {
            "context_length": clip.context,
            "vocab_size": clip.vocabulary,
            "width": clip.text_width,
            "heads": clip.text_heads,
            "layers": clip.text_layers,
        },
        "quick_gelu": clip.quick_gelu,
    }


def theirs(clip: Clip, state: dict[str, Tensor]) -> open_clip.CLIP:
    model = open_clip.CLIP(**model_config(clip)).eval()
    model.load_state_dict({key: value.float() for key, value in state.items()}, strict=True)
    return model


@torch.no_grad()
def their_cosine(model: open_clip.CLIP, pixels: list[Tensor], prompts: list[str]) -> Tensor:
    tokens = open_clip.get_tokenizer("ViT-H-14")(prompts)
    image = model.encode_image(torch.stack(pixels), normalize=True)
    return (image * model.encode_text(tokens, normalize=True)).sum(-1)


def pil_pixels(images: list[Image.Image], size: int = TINY.image) -> list[Tensor]:
    processor = ClipProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return list(processor(images, return_tensors="pt").pixel_values)


def torchvision_crop(images: list[Image.Image], size: int) -> list[Tensor]:
    chain = [transforms.Resize(size, InterpolationMode.BICUBIC), transforms.CenterCrop(size), transforms.ToTensor()]
    return [transforms.Compose([*chain, NORMALISE])(image) for image in images]

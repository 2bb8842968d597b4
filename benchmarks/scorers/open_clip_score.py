"""CLIPScore on any model of the open-clip-torch package, which is optional and needs torchvision."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.scorers.base import Scorer


class OpenCLIPScore(Scorer):
    """scale·max(cosine, 0) in an open_clip model, with that model's own resizing and tokenizer."""

    name: ClassVar[str] = "open_clip_score"

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        pixels: Callable[[Image.Image], Tensor],
        options: dict[str, str | float | bool],
    ):
        super().__init__(model, (), options)
        # a pretrained tag does not tell which file it stands for, so the weights themselves are hashed
        self.files = {"state_dict": state_hash(model)}
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.token_limit = tokenizer.context_length

    @classmethod
    def load(
        cls,
        model: str,
        weights: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        scale: float = 100.0,
        clamp: bool = True,
    ) -> "OpenCLIPScore":
        """`model` open_clip's name of it, `weights` a file or open_clip's name of pretrained ones.

        Raises ModuleNotFoundError without open-clip-torch, ValueError for a model or weights it does not know.
        """
        open_clip = import_open_clip()
        if model not in open_clip.list_models():
            raise ValueError(f"model={model!r} is not one of open_clip's; open_clip.list_models() names them")
        tags = open_clip.list_pretrained_tags_by_model(model)
        path = Path(weights).expanduser()
        if str(weights) not in tags and not path.is_file():
            raise FileNotFoundError(f"weights={weights!s} is no file; pretrained ones of {model}: {', '.join(tags)}")
        given = str(path) if path.is_file() else str(weights)
        network, _, pixels = open_clip.create_model_and_transforms(
            model, pretrained=given, device=device, weights_only=True
        )
        options = {"model": model, "scale": scale, "clamp": clamp, "open_clip": open_clip.__version__}
        return cls(network.to(dtype), open_clip.get_tokenizer(model), pixels, options)

    @property
    def column(self) -> str:
        return f"{self.name}_{self.options['model'].lower().replace('-', '_')}"

    def score_batch(self, images: list[Image.Image], prompts: list[str]) -> Float[Tensor, " n"]:
        pixels = torch.stack([self.pixels(image) for image in images]).to(self.device, self.dtype)
        pictures = F.normalize(self.model.encode_image(pixels).float(), dim=-1)
        texts = F.normalize(self.model.encode_text(self.tokenizer(prompts).to(self.device)).float(), dim=-1)
        cosines = (pictures * texts).sum(-1)
        return self.options["scale"] * (cosines.clamp(min=0) if self.options["clamp"] else cosines)

    def count_tokens(self, prompts: Sequence[str]) -> list[int]:
        if isinstance(self.tokenizer, import_open_clip().SimpleTokenizer):
            return [len(self.tokenizer.encode(prompt)) + 2 for prompt in prompts]
        cleaned = [self.tokenizer.clean_fn(prompt) for prompt in prompts]
        return [len(row) for row in self.tokenizer.tokenizer(cleaned, truncation=False, verbose=False)["input_ids"]]


def import_open_clip():
    """The optional package; ModuleNotFoundError that says how to get it."""
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this scorer needs open-clip-torch: pip install open-clip-torch") from error
    return open_clip


def state_hash(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

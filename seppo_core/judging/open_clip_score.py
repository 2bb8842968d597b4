"""CLIPScore on any model of the open-clip-torch package, which is optional and needs torchvision."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from seppo_core.judging.base import Scorer
from seppo_core.judging.weights import Source, locate

COLUMN = re.compile(r"open_clip_score\[([\w.-]+)(?::([\w.-]+))?\]")
"""open_clip_score[MODEL] or open_clip_score[MODEL:TAG], as open_clip itself writes a model and its weights."""
SAFE, PICKLED = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
RECIPE = ("mean", "std", "interpolation", "resize_mode", "quick_gelu")
"""Settings of a tag that the scores depend on, beside the weights."""

Recipe = dict[str, object]


class OpenCLIPScore(Scorer):
    """scale·max(cosine, 0) in an open_clip model, with that model's own resizing and tokenizer."""

    name: ClassVar[str] = "open_clip_score"

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        pixels: Callable[[Image.Image], Tensor],
        files: Sequence[Path],
        options: dict[str, str | float | bool],
    ):
        super().__init__(model, files, options)
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.token_limit = tokenizer.context_length

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        model: str = "ViT-L-14",
        tag: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        scale: float = 100.0,
        clamp: bool = True,
    ) -> "OpenCLIPScore":
        """`model` and `tag` are open_clip's names; `weights` a file, folder or hub id, None what the tag stands for.

        A file says neither how pictures are normalised nor which GELU it was trained with: that comes from the tag, or
        without one from what all published weights of the model have in common. Raises ModuleNotFoundError without
        open-clip-torch, ValueError for a model or tag it does not know, and for a model without a tag whose published
        weights differ in this; FileNotFoundError as `locate`.
        """
        open_clip = import_open_clip()
        recipe = recipe_of(model, tag)
        (file,) = locate(weights_of(model, tag), weights)
        network, _, pixels = open_clip.create_model_and_transforms(
            model,
            pretrained=str(file),
            device=device,
            weights_only=True,
            # a model's own configuration has it too, but not where weights of both kinds are published for it
            force_quick_gelu=bool(recipe.get("quick_gelu")),
            image_mean=recipe.get("mean"),
            image_std=recipe.get("std"),
            image_interpolation=recipe.get("interpolation"),
            image_resize_mode=recipe.get("resize_mode"),
        )
        options = {"model": model, "scale": scale, "clamp": clamp, "open_clip": open_clip.__version__}
        options |= {"tag": tag} if tag else {}
        options |= {name: str(value) for name, value in recipe.items()}
        return cls(network.to(dtype), open_clip.get_tokenizer(model), pixels, (file,), options)

    @property
    def column(self) -> str:
        tag = f":{self.options['tag']}" if "tag" in self.options else ""
        return f"{self.name}[{self.options['model']}{tag}]"

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
    """The optional package; ModuleNotFoundError that says how to get it, or why it does not import."""
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this scorer needs open-clip-torch: pip install 'seppo[clip]'") from error
    except (ImportError, RuntimeError) as error:
        # torchvision's Linux wheels link CUDA, and beside a CPU build of torch they break on import
        reason = str(error).splitlines()[0]
        raise ModuleNotFoundError(
            f"open-clip-torch is installed and does not import ({reason}); it needs a torchvision that fits this torch"
        ) from error
    return open_clip


def weights_of(model: str, tag: str | None) -> Source:
    """The files that a column reads. Without the open_clip package nobody can say what a tag stands for.

    Raises ValueError for a model or tag that the package does not know.
    """
    hub, names = None, (SAFE, PICKLED)
    address = f"weights of open_clip's {model}" + (f", {tag}" if tag else "")
    try:
        published = settings_of(model)
    except ModuleNotFoundError:
        published = None
    if tag is not None and published is not None:
        _check_tag(model, tag)
        hub, _, name = str(published[tag]["hf_hub"]).rpartition("/")
        # open_clip, too, takes the safetensors beside a pickled file if there is one
        names = (f"{name.rpartition('.')[0]}.safetensors", name) if name else names
    return Source("weights", hub, tuple((name,) for name in names), 0, "licence as its page says", address)


def recipe_of(model: str, tag: str | None) -> Recipe:
    """How the weights were trained, as far as a file does not tell; errors as `OpenCLIPScore.load`."""
    published = settings_of(model)
    if tag is not None:
        _check_tag(model, tag)
        return _recipe(published[tag])
    recipes = [_recipe(settings) for settings in published.values()]
    if any(recipe != recipes[0] for recipe in recipes):
        raise ValueError(
            f"weights of {model} were trained in different ways; name those that yours follow, e.g. "
            f"open_clip_score[{model}:{next(iter(published))}], of {', '.join(published)}"
        )
    return recipes[0] if recipes else {}


@cache
def settings_of(model: str) -> dict[str, Recipe]:
    """open_clip's settings of each tag of a model. ModuleNotFoundError without the package, ValueError for no model."""
    open_clip = import_open_clip()
    if model not in open_clip.list_models():
        raise ValueError(f"model={model!r} is not one of open_clip's; open_clip.list_models() names them")
    return {tag: open_clip.get_pretrained_cfg(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)}


def _recipe(settings: Recipe) -> Recipe:
    found = {name: settings[name] for name in RECIPE if settings.get(name) is not None}
    return {"quick_gelu": False, **found}


def _check_tag(model: str, tag: str) -> None:
    if tag not in (published := settings_of(model)):
        raise ValueError(
            f"open_clip publishes no weights {tag!r} of {model}; there are {', '.join(published) or 'none'}"
        )

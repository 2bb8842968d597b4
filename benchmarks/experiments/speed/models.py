"""The measured bases, by architecture and size, built with random weights and without any download."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.models import ModelMixin
from torch import Tensor, nn

from benchmarks.experiments.toy.task.bases import image_base, motion_adapter, video_base
from seppo_core.config.method import MethodConfig
from seppo_core.config.schema import Config, TuneConfig
from seppo_core.io.rng import keyed_generator
from seppo_core.models.adapter import Adapter, Condition, CropInfo
from seppo_core.models.vae import cast
from seppo_core.plan.architecture import pipeline_architecture
from seppo_core.plan.build import build_adapter, caption_condition
from seppo_core.toy.render import FRAMES
from seppo_image.config import ImageConfig, ImageData, ImageModel
from seppo_video.config import VideoConfig, VideoData, VideoModel

Modality = Literal["image", "video"]
Tune = Literal["full", "lora"]

MODELS = {"image": ImageModel, "video": VideoModel}
BASES = {modality: model.bases for modality, model in MODELS.items()}
MOTION = {
    "StableDiffusionPipeline": ("animatediff", "guoyww/animatediff-motion-adapter-v1-5-3"),
    "StableDiffusionXLPipeline": ("animatediff-sdxl", "guoyww/animatediff-motion-adapter-sdxl-beta"),
}
"""Image bases that become one of clips: the family, and the motion modules unless others are named."""
STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
PIXELS = {"image": 512, "video": 256}
CLIP, CAUSAL_CLIP = 16, 17
"""Frames; the autoencoders of other families take one and then 4 or 8 at a time."""
TOY_PIXELS = 32
ON_CLIPS = ("methods", "parts", "checkpointing")
"""Comparisons on the small base of clips that fit the time on a CPU; the others come out as with images."""


@dataclass(frozen=True)
class Subject:
    """One base at one size."""

    title: str
    modality: Modality
    family: str
    base: str
    """A hub id whose numbers are known without network, or a folder."""
    motion_adapter: str | None
    height: int
    width: int
    frames: int
    batch: int
    """Items, or pairs of them, in an update."""
    tune: Tune | None
    """None takes what fits: all weights of an image base, a LoRA of a base of clips."""
    rank: int = 16
    comparisons: tuple[str, ...] | None = None
    """Comparisons that are run unless some are asked for by name; None runs all."""

    @property
    def size(self) -> str:
        clip = f"{self.frames} x " if self.modality == "video" else ""
        return f"{clip}{self.height} x {self.width}"

    @property
    def wanted_tune(self) -> Tune:
        """The tuning mode that is used if it fits the memory."""
        return self.tune or ("full" if self.modality == "image" else "lora")

    def config(self, tune: Tune, dtype: str = "float32", name: str = "seppo", **method: Any) -> Config:
        """As `train` would be given it, for the method `name` with the options `method`."""
        common = {"run": "unused", "method": MethodConfig.variants()[name](**method)}
        size = {"source": "unused", "cache": "unused", "height": self.height, "width": self.width}
        if self.modality == "image":
            model = ImageModel.variants()[self.family](base=self.base, dtype=dtype)
            return ImageConfig(
                model=model, data=ImageData(**size), tune=TuneConfig(mode=tune, rank=self.rank), **common
            )
        motion = {} if self.motion_adapter is None else {"motion_adapter": self.motion_adapter}
        model = VideoModel.variants()[self.family](base=self.base, dtype=dtype, **motion)
        data = VideoData(**size, frames=self.frames)
        return VideoConfig(model=model, data=data, tune=TuneConfig(mode=tune, rank=self.rank), **common)


def find_subject(
    base: str,
    *,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    motion: str | None = None,
    tune: Tune | None = None,
    batch: int | None = None,
    rank: int = 16,
) -> Subject:
    """The subject of a hub id (its last part is enough) or a folder; what is None takes the family's usual value.

    An image base with `frames` gets motion modules. FileNotFoundError if nothing is known of `base`, ValueError
    if its pipeline is of no family here, or if a choice does not go with it.
    """
    name = _whole_name(base)
    pipeline, modality = _pipeline_of(name)
    if modality == "image" and (frames or motion):
        if pipeline not in MOTION:
            raise ValueError(f"--base {base} draws images and takes no motion modules; leave out --frames and --motion")
        family, usual = MOTION[pipeline]
        modality, motion = "video", motion or usual
    else:
        family = next(name for name, model in MODELS[modality].variants().items() if model.spec.pipeline == pipeline)
        if motion and not family.startswith("animatediff"):
            raise ValueError(f"--motion {motion} is for AnimateDiff; {base} is of the family {family}")
    height = height or width or PIXELS[modality]
    length = CLIP if family.startswith("animatediff") else CAUSAL_CLIP
    clip = {"image": 1, "video": frames or length}[modality]
    title = Path(name).name if Path(name).is_dir() else name.rpartition("/")[2]
    title = f"{family} on {title}" if motion else title
    return Subject(
        title, modality, family, name, motion, height, width or height, clip,
        batch or {"image": 4, "video": 2}[modality], tune, rank,
    )  # fmt: skip


def default_subjects(cuda: bool, tune: Tune | None = None, batch: int | None = None, rank: int = 16) -> list[Subject]:
    """Images and clips: on CUDA Stable Diffusion 1.5 and AnimateDiff on it, elsewhere the two small bases in-tree."""
    if cuda:
        chosen = {"tune": tune, "batch": batch, "rank": rank}
        return [find_subject(STABLE_DIFFUSION, **chosen), find_subject(STABLE_DIFFUSION, frames=CLIP, **chosen)]
    images = Subject(
        "toy images", "image", "stable-diffusion", str(image_base()), None, TOY_PIXELS, TOY_PIXELS, 1,
        batch or 8, tune, rank,
    )  # fmt: skip
    clips = Subject(
        "toy clips", "video", "animatediff", str(video_base()), str(motion_adapter()), TOY_PIXELS, TOY_PIXELS, FRAMES,
        batch or 2, tune, rank, ON_CLIPS,
    )  # fmt: skip
    return [images, clips]


def known_bases() -> list[str]:
    """Hub ids that `find_subject` knows without network."""
    from seppo_core.plan.architecture import known

    return sorted({name for shipped in BASES.values() for name in known(shipped)})


def _whole_name(base: str) -> str:
    if "/" in base or Path(base).is_dir():
        return base
    return next((name for name in known_bases() if name.rpartition("/")[2].lower() == base.lower()), base)


def _pipeline_of(name: str) -> tuple[str, Modality]:
    """Class of the pipeline, and what its family draws."""
    for modality, shipped in BASES.items():
        try:
            found = pipeline_architecture(name, shipped).index["_class_name"]
        except FileNotFoundError:
            continue
        if any(model.spec.pipeline == found for model in MODELS[modality].variants().values()):
            return found, modality
        if modality == "video":
            raise ValueError(f"--base {name} is a {found}, which is of no family here")
    raise FileNotFoundError(
        f"nothing is known of --base {name} without network; it takes {', '.join(known_bases())}, and folders of "
        "diffusers pipelines, of which it reads the *.json files alone"
    )


def random_adapter(config: Config, dtype: torch.dtype, device: torch.device) -> Adapter:
    """The adapter of `config` with a denoiser of random weights on `device`; VAE and text encoders stay without memory.

    ValueError if the family builds another denoiser of its numbers than `plan` does.
    """
    adapter = build_adapter(config, dtype)
    denoiser = with_weights(adapter.denoiser, device)
    adapter.pipeline.register_modules(**{adapter.component: denoiser})
    adapter.denoiser = denoiser
    return adapter


def encoding_adapter(config: Config, dtype: torch.dtype, device: torch.device) -> Adapter:
    """The adapter of `config` with VAE and text encoders of random weights in `dtype`, and tokenizers that make up
    tokens; its denoiser has no memory."""
    bare = build_adapter(config, dtype)
    p = bare.pipeline
    encoders = {name: with_weights(module, device) for name, module in p.components.items() if _encodes(name, module)}
    for name, encoder in encoders.items():
        cast(encoder, dtype)
        setattr(p, name, encoder)
        tokenizer = name.replace("text_encoder", "tokenizer")
        if tokenizer != name:
            made_up = MadeUpTokens(
                p.components[tokenizer].model_max_length, encoder.config.get_text_config().vocab_size
            )
            setattr(p, tokenizer, made_up)
    # once more, for some families read the scale of their latents from the VAE's weights
    adapter = bare.configured(p, config.model)
    # some take their VAE to float32 whatever was asked for
    cast(p.vae, dtype)
    return adapter


def _encodes(name: str, module: object) -> bool:
    return module is not None and (name == "vae" or name.startswith("text_encoder"))


def with_weights(model: nn.Module, device: torch.device, seed: int = 0) -> nn.Module:
    """A model on `device` of the config, names, shapes and dtypes of `model`, which is on the meta device.

    Weights are those that the class itself begins with: outputs are finite, as with a trained model.
    """
    before = torch.get_default_dtype()
    # made in its own dtype: in float32 a large one would take twice the memory of the measurement
    torch.set_default_dtype(model.dtype)
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(seed)
            made = type(model).from_config(model.config) if isinstance(model, ModelMixin) else type(model)(model.config)
    finally:
        torch.set_default_dtype(before)
    wanted = dict(_tensors(model))
    found = dict(_tensors(made))
    differing = sorted(name for name in wanted.keys() | found.keys() if _shape(wanted, name) != _shape(found, name))
    if differing:
        raise ValueError(f"{type(model).__name__} built of its config differs in {', '.join(differing[:3])}")
    for name, tensor in found.items():
        # the meta model's dtypes are those that loading gives, parts that stay in float32 among them
        tensor.data = tensor.data.to(wanted[name].dtype)
    return made.eval().requires_grad_(False)


@dataclass(frozen=True)
class Conditions:
    """Random conditions of the shapes that the family's text encoders and framing give."""

    text: Condition
    """Condition of one caption, on the meta device."""
    framing: Condition
    """Size condition of one item."""

    @classmethod
    def of(cls, subject: Subject, adapter: Adapter) -> "Conditions":
        whole = CropInfo(subject.height, subject.width, 0, 0, subject.height, subject.width)
        return cls(caption_condition(adapter), adapter.size_condition([whole]))

    def draw(self, count: int, device: torch.device) -> Condition:
        """Conditions of `count` items, (count, …) each, float32 as the cache gives them."""
        framing = {name: value.expand(count, *value.shape[1:]).to(device) for name, value in self.framing.items()}
        return self.draw_text(count, device) | framing

    def draw_text(self, count: int, device: torch.device) -> Condition:
        """Text conditions of `count` captions. Masks leave out nothing, as for a full caption."""
        return {name: self._values(name, meta, count).to(device) for name, meta in self.text.items()}

    def _values(self, name: str, meta: Tensor, count: int) -> Tensor:
        shape = (count, *meta.shape[1:])
        if not meta.is_floating_point():
            return torch.ones(shape, dtype=meta.dtype)
        return torch.randn(shape, generator=keyed_generator("condition", name))


@dataclass(frozen=True)
class Encoded:
    """The output of a tokenizer: lists, or tensors (b, tokens) if they are asked for."""

    input_ids: Tensor | list
    attention_mask: Tensor | list


@dataclass
class MadeUpTokens:
    """Stands for a tokenizer: as many tokens as it is asked for, made up of the caption. Splitting words costs nothing
    beside the model that reads them."""

    model_max_length: int
    vocabulary: int
    padding_side: str = "right"

    def __call__(self, text: str | list[str], *, max_length: int | None = None, return_tensors=None, **_) -> Encoded:
        if isinstance(text, str):
            ids = self._ids(text, len(text.split()))
            return Encoded(ids, [1] * len(ids))
        length = max_length or self.model_max_length
        ids = [self._ids(one, length) for one in text]
        mask = [[1] * length for _ in text]
        if return_tensors is None:
            return Encoded(ids, mask)
        return Encoded(torch.tensor(ids), torch.tensor(mask))

    def _ids(self, text: str, length: int) -> list[int]:
        generator = keyed_generator("tokens", zlib.crc32(text.encode()))
        return torch.randint(self.vocabulary, (length,), generator=generator).tolist()


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _shape(tensors: dict[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None

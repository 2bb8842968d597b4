"""The section `model`, and what the rest of the package must know of a family without importing its adapter.

Every family has a record: a frozen dataclass on `ModelConfig` that holds its name, its config keys with their defaults
and a `FamilySpec`. It stands in a module of `seppo_image.families` or `seppo_video.families`, where it is found by
itself (see `seppo_core.config.variants`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from seppo_core.config.base_files import base_problems, known_pipeline, read_index
from seppo_core.config.single_file import known_layout, layout_of, read_header, single_file_problems
from seppo_core.config.variants import Variants

Quantized = Literal["nf4", "int8", "int8wo", "float8wo"]
PACKAGES: dict[Quantized, tuple[str, str]] = {
    "nf4": ("bitsandbytes", "0.50"),
    "int8": ("bitsandbytes", "0.50"),
    "int8wo": ("torchao", "0.18"),
    "float8wo": ("torchao", "0.18"),
}
"""The package that each form of quantised weights needs, and its least version."""


@dataclass(frozen=True, kw_only=True)
class FamilySpec:
    """Constants of one family, as opposed to the options that a user may set."""

    adapter: str
    """The adapter's class, as "package.module:Class"."""
    pipeline: str
    """Name of the diffusers pipeline that a base is saved from, and that an export loads as."""
    autoencoder: str = "AutoencoderKL"
    """Name of the diffusers class that `model.vae` is loaded as."""
    flow: bool = False
    """Whether the denoiser is trained by flow matching; else it is a diffusion model."""
    unet: bool = False
    """Whether the denoiser is a UNet, on captions of CLIPs; else it is a row of transformer blocks, on captions of a
    large language model."""
    cfg: bool = True
    """Whether samples are guided by two passes (classifier-free); else the denoiser is told the scale, or has none."""
    scopes: tuple[str, ...] = ("all",)
    """Values that `tune.scope` may take."""
    context: Literal["latents", "latents and text"] | None = None
    """What diffusers' context parallelism splits over processes; None if it has no plan for the denoiser."""
    image_pipeline: str | None = None
    """Name of the image pipeline that becomes one of this family with motion modules; None if there are no such."""
    comfyui: str | None = None
    """The function that names a LoRA's layers as ComfyUI does, as "package.module:function"; None where it has no
    format for the family."""
    comfyui_scopes: tuple[str, ...] = ("all",)
    """Values of `tune.scope` whose LoRA is one file there."""
    usage: str = "seppo_core.export.snippets:usage"
    """The function that writes the Python of a model card, as "package.module:function"."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Variants):
    """The model that is aligned. Which keys it has depends on its family."""

    chosen_by: ClassVar[str] = "family"
    spec: ClassVar[FamilySpec]
    bases: ClassVar[Path]
    """Folder with the architecture numbers of published bases, for `plan`."""

    family: str
    """Model family; if it is left out, the one whose pipeline the base is."""
    base: str
    """Base model or fine-tune to start from: a Hub id, a local diffusers folder, or one .safetensors file of a Stable
    Diffusion 1.x or 2.x, SDXL or Flux."""
    single_file_config: str | None = None
    """For a base in one file: a diffusers folder of its kind, which gives the tokenizers, and the models that the file
    lacks. Its configs, where it has any, take the place of those of the published model."""
    revision: str | None = None
    """Branch, tag or commit of a Hub id."""
    variant: str | None = None
    """Variant of the weight files to load if a model has several, e.g. fp16."""
    vae: str | None = None
    """VAE to use in place of the base's own: a Hub id or a local folder."""
    lora: str | None = None
    """Existing LoRA to start from: a Hub id, a folder or a file."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the VAE, the text encoders and the weights under a LoRA; VAEs that overflow stay in float32. Full
    fine-tuning trains in float32, and `prepare` encodes in this precision for it too."""
    quantize: Quantized | None = None
    """Keep frozen matrices and convolutions under a LoRA in fewer bits: nf4 (4 bits) or int8 of bitsandbytes, int8wo or
    float8wo (8 bits, weights only) of torchao. Needs the extra `quantize`. The LoRA is exported for the plain base."""
    offload: bool = False
    """Keep the frozen blocks under a LoRA in CPU memory and bring each to the GPU when it computes, the next one ahead:
    room for two blocks instead of all. For transformers, with loop.gradient_checkpointing."""
    quantize_text: Quantized | None = None
    """Keep text encoders other than CLIP in fewer bits, in the same forms. It changes the encoded captions a little."""

    @classmethod
    def inferred(cls, given: Mapping[str, Any]) -> str | None:
        """The family whose pipeline `base` is, by its model_index.json or the numbers that come with this program."""
        base = Path(str(given.get("base"))).expanduser()
        found = known_layout(base) if base.is_file() else known_pipeline(str(given.get("base")), cls.bases)
        return cls.family_of(found) if found is not None else None

    @classmethod
    def family_of(cls, pipeline: str) -> str | None:
        """The family that takes bases of this diffusers pipeline; None if there is none."""
        families = cls.variants().items()
        return next((name for name, one in families if pipeline in (one.spec.pipeline, one.spec.image_pipeline)), None)

    def load_options(self) -> dict[str, bool | None]:
        """Further arguments of the pipeline's `from_pretrained`, e.g. None for a component that is not loaded."""
        return {}

    def encoding(self) -> dict[str, str | int | bool]:
        """The keys, beside what names weights, that decide what `prepare` caches."""
        kept = {f"model.{key}": vars(self)[key] for key in ("dtype", "text_tokens", "t5") if key in vars(self)}
        # named only if it is set, so that caches from before this key stay what they are
        return kept | ({} if self.quantize_text is None else {"model.quantize_text": self.quantize_text})

    def replaced(self) -> set[str]:
        """The components of the base that are not loaded."""
        unused = {name for name, value in self.load_options().items() if value is None}
        return unused | ({"vae"} if self.vae is not None else set())

    def pipeline_problems(self, found: str) -> list[str]:
        """What does not fit if the base is a diffusers pipeline of the class `found`."""
        spec = self.spec
        if found in (spec.pipeline, spec.image_pipeline):
            return []
        family = self.family_of(found)
        cure = "no family here takes it" if family is None else f"set model.family={family}, or leave that key out"
        return [f"it is a {found}; this family needs a {spec.pipeline} (model.family={self.family}); {cure}"]

    def fitting_problems(self, place: Path) -> list[str]:
        """What does not fit about the pipeline in a folder or in a file."""
        found = layout_of(place, read_header(place)).pipeline if place.is_file() else read_index(place)["_class_name"]
        return self.pipeline_problems(found)

    def base_problems(self, place: Path) -> list[str]:
        """What keeps the base in a folder or in a file from being loaded, with every cure; reads no weights."""
        # another family has other parts
        if fitting := self.fitting_problems(place):
            return fitting
        if place.is_file():
            return single_file_problems(place, self.single_file_config, self.bases, self.replaced())
        return base_problems(place, self.variant, self.replaced())

    def parts(self) -> dict[str, str | None]:
        """Where single models come from that replace the base's own components, or are put beside them, by key."""
        return {"vae": self.vae}

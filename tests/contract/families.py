"""Every family's row in the contract: a tiny pipeline, the adapter around it, and how plain diffusers runs the same."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from diffusers import (
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    CogVideoXPipeline,
    DiffusionPipeline,
    FluxPipeline,
    HunyuanVideoPipeline,
    LTXPipeline,
    PixArtSigmaPipeline,
    SanaPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    WanPipeline,
)
from torch import Generator, Tensor

from seppo_core.models.adapter import Adapter
from seppo_core.models.noise_path import FlowNoisePath
from seppo_image.flux import Flux
from seppo_image.pixart import PixArtSigma
from seppo_image.sana import Sana
from seppo_image.sd3 import StableDiffusion3
from seppo_image.sdxl import StableDiffusionXL
from seppo_image.stable_diffusion import StableDiffusion
from seppo_video.animatediff import AnimateDiff
from seppo_video.animatediff_sdxl import AnimateDiffXL
from seppo_video.cogvideox import CogVideoX
from seppo_video.hunyuan import HunyuanVideo
from seppo_video.ltx import LTX
from seppo_video.wan import Wan
from tests import tiny, tiny_image, tiny_video
from tests.contract.plain import (
    Encoded,
    encode_flux,
    encode_hunyuan,
    encode_masked,
    encode_one,
    encode_sana,
    encode_sd3,
    encode_sdxl,
    encode_t5,
    flux_latents,
    flux_tokens,
    frames_first,
    load_lora,
    load_lora_by_peft,
    ltx_latents,
    scaling_of_config,
    scaling_of_ltx,
    scaling_of_wan,
)


@dataclass(frozen=True)
class Family:
    """One family. `pipeline` builds a fresh one with the same weights each time; `folder` is for its tokenizer."""

    name: str
    latent_shape: tuple[int, ...]
    pipeline: Callable[[Path], DiffusionPipeline]
    wrap: Callable[[DiffusionPipeline], Adapter]
    load_plain: Callable[[Path], DiffusionPipeline]
    encode: Callable[[DiffusionPipeline, list[str]], Encoded] = encode_one
    """What the pipeline itself makes of prompts."""
    call: dict = field(default_factory=dict)
    """What the pipeline has to be told beside prompts, size, steps and guidance."""
    pack: Callable[[Tensor], Tensor] = Tensor.clone
    """Our latents as the pipeline takes them, and its answer as ours."""
    unpack: Callable[[Tensor, tuple[int, ...]], Tensor] = lambda latents, latent_shape: latents
    multiple: int = 8
    """Of which heights and widths have to be."""
    factor: int = 8
    """Pixels per latent, along a side."""
    frames: int = 1
    """Of a clip with these latents."""
    whole_clips: bool = False
    """Whether the VAE takes a clip at once, not frame by frame."""
    repeated: int = 0
    """Latent frames at the clip's beginning that are there again: the VAE does not know them."""
    frames_rule: str = "use 1"
    """A regular expression for what the refusal of 0 and of 1000 frames names."""
    scaling: Callable[[DiffusionPipeline], tuple[Tensor, Tensor]] = scaling_of_config
    """Shift and scale of the VAE's latents: theirs are (z − shift) · scale."""
    unreached: str = ""
    """A regular expression for the beginnings of parameters that cannot influence the answer."""
    load_lora: Callable[[DiffusionPipeline, Path], None] = load_lora
    """Puts an exported LoRA on a plain pipeline."""

    def adapter(self, folder: Path) -> Adapter:
        return self.wrap(self.pipeline(folder))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.latent_shape[-2] * self.factor, self.latent_shape[-1] * self.factor

    def pipeline_latents(
        self,
        pipeline: DiffusionPipeline,
        prompts: list[str],
        noise: Tensor,
        *,
        steps: int,
        guidance_scale: float,
        generators: list[Generator] | None = None,
    ) -> Tensor:
        """What the family's own diffusers pipeline makes of `noise`, as latents."""
        size = dict(zip(("height", "width"), self.size, strict=True))
        frames = {"num_frames": self.frames} if len(self.latent_shape) == 4 else {}
        pipeline.set_progress_bar_config(disable=True)
        latents = pipeline(
            prompts, latents=self.pack(noise), num_inference_steps=steps, guidance_scale=guidance_scale,
            output_type="latent", generator=generators, **size, **frames, **self.call,
        )[0]  # fmt: skip
        return self.unpack(latents, self.latent_shape)


def is_flow(adapter: Adapter) -> bool:
    return isinstance(adapter.path, FlowNoisePath)


T5_CALL = {"max_sequence_length": tiny_image.T5_TOKENS}
# a picture of another height than width, so that rows taken for columns show
SD3 = {
    "latent_shape": (4, 8, 12),
    "wrap": partial(StableDiffusion3, text_tokens=tiny_image.T5_TOKENS),
    "load_plain": StableDiffusion3Pipeline.from_pretrained,
    "encode": encode_sd3,
    "call": T5_CALL,
    "multiple": 16,
    # the last block's answer about the text is dropped
    "unreached": r"transformer_blocks\.1\.attn\.(add_q_proj|norm_added_q)\.",
}
FLUX = {
    "latent_shape": (4, 8, 12),
    # 1000 times the guidance is embedded: 4000 is the same in bfloat16, 3500 is not
    "wrap": partial(Flux, text_tokens=tiny_image.T5_TOKENS, training_guidance=4.0),
    "load_plain": FluxPipeline.from_pretrained,
    "encode": encode_flux,
    "call": T5_CALL,
    "pack": flux_tokens,
    "unpack": flux_latents,
    "multiple": 16,
}
WAN = {
    "latent_shape": (4, 2, 4, 6),
    "wrap": partial(Wan, text_tokens=tiny_image.T5_TOKENS),
    "load_plain": WanPipeline.from_pretrained,
    "encode": encode_t5,
    "call": T5_CALL,
    "multiple": 16,
    "frames": 5,
    "whole_clips": True,
    "frames_rule": r"use 4k \+ 1, e\.g\. 1(001)?$",
    "scaling": scaling_of_wan,
}
COGVIDEOX = {
    "wrap": CogVideoX,
    "load_plain": CogVideoXPipeline.from_pretrained,
    "encode": encode_t5,
    "call": T5_CALL,
    "pack": frames_first,
    "unpack": frames_first,
    "multiple": 16,
    "frames": 9,
    "whole_clips": True,
    "frames_rule": r"use 8k \+ 1, e\.g\. 1(001)?$",
}

FAMILIES = [
    Family(
        "stable-diffusion",
        (4, 8, 8),
        tiny.stable_diffusion,
        StableDiffusion,
        lambda folder: StableDiffusionPipeline.from_pretrained(folder, safety_checker=None),
    ),
    Family(
        "stable-diffusion-v",
        (4, 8, 8),
        lambda folder: tiny.stable_diffusion(folder, "v_prediction"),
        StableDiffusion,
        lambda folder: StableDiffusionPipeline.from_pretrained(folder, safety_checker=None),
    ),
    Family(
        "sdxl",
        (4, 8, 12),
        tiny_image.sdxl,
        StableDiffusionXL,
        lambda folder: StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False),
        encode_sdxl,
    ),
    Family("sd3", pipeline=tiny_image.sd3, **SD3),
    Family(
        "sd3-dynamic-no-t5",
        pipeline=partial(tiny_image.sd3, with_t5=False, dynamic=True),
        **SD3
        | {"load_plain": partial(StableDiffusion3Pipeline.from_pretrained, text_encoder_3=None, tokenizer_3=None)},
    ),
    Family("flux-dev", pipeline=tiny_image.flux, **FLUX),
    Family("flux-schnell", pipeline=partial(tiny_image.flux, dev=False), **FLUX),
    Family(
        "sana",
        (4, 8, 12),
        tiny_image.sana,
        partial(Sana, text_tokens=tiny_image.T5_TOKENS),
        SanaPipeline.from_pretrained,
        encode_sana,
        T5_CALL | {"use_resolution_binning": False},
    ),
    Family(
        "pixart-sigma",
        (4, 8, 12),
        tiny_image.pixart,
        partial(PixArtSigma, text_tokens=tiny_image.T5_TOKENS),
        PixArtSigmaPipeline.from_pretrained,
        encode_masked,
        T5_CALL | {"use_resolution_binning": False, "clean_caption": False},
        multiple=16,
        load_lora=load_lora_by_peft,
    ),
    Family(
        "animatediff",
        (4, 4, 8, 8),
        tiny.animatediff,
        AnimateDiff,
        AnimateDiffPipeline.from_pretrained,
        frames=4,
    ),
    Family(
        "animatediff-sdxl",
        (4, 4, 8, 12),
        tiny_video.animatediff_sdxl,
        AnimateDiffXL,
        AnimateDiffSDXLPipeline.from_pretrained,
        encode_sdxl,
        frames=4,
    ),
    Family("wan", pipeline=tiny_video.wan, **WAN),
    Family("wan-flow-match", pipeline=partial(tiny_video.wan, unipc=False), **WAN),
    Family(
        "ltx",
        (8, 2, 2, 3),
        tiny_video.ltx,
        partial(LTX, text_tokens=tiny_image.T5_TOKENS, fps=tiny_video.FPS),
        LTXPipeline.from_pretrained,
        encode_masked,
        T5_CALL | {"frame_rate": tiny_video.FPS},
        LTXPipeline._pack_latents,
        ltx_latents,
        multiple=32,
        factor=32,
        frames=9,
        whole_clips=True,
        frames_rule=r"use 8k \+ 1, e\.g\. 1(001)?$",
        scaling=scaling_of_ltx,
    ),
    Family("cogvideox-2b", (4, 3, 4, 6), partial(tiny_video.cogvideox, rotary=False), **COGVIDEOX),
    Family("cogvideox-5b", (4, 3, 4, 6), tiny_video.cogvideox, **COGVIDEOX),
    Family(
        "cogvideox-1.5", (4, 4, 4, 6), partial(tiny_video.cogvideox, packed_frames=2), **COGVIDEOX | {"repeated": 1}
    ),
    Family(
        "hunyuan",
        (4, 2, 4, 6),
        tiny_video.hunyuan,
        # as for Flux
        partial(HunyuanVideo, text_tokens=tiny_video.HUNYUAN_TOKENS, training_guidance=4.0),
        HunyuanVideoPipeline.from_pretrained,
        encode_hunyuan,
        {"max_sequence_length": tiny_video.HUNYUAN_TOKENS},
        multiple=16,
        frames=5,
        whole_clips=True,
        frames_rule=r"use 4k \+ 1, e\.g\. 1(001)?$",
    ),
]

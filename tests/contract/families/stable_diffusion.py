"""Stable Diffusion 1.x and 2.x in the contract."""

from functools import partial

from diffusers import StableDiffusionPipeline

from seppo_image.stable_diffusion import StableDiffusion
from tests.contract.family import Family
from tests.contract.mistakes import TEXT_DROPPED, THOUSANDTHS
from tests.tiny import stable_diffusion

STABLE_DIFFUSION = {
    "latent_shape": (4, 8, 8),
    "wrap": StableDiffusion,
    "load_plain": partial(StableDiffusionPipeline.from_pretrained, safety_checker=None),
}
ROWS = [
    Family(
        "stable-diffusion",
        pipeline=stable_diffusion,
        mistakes={"timestep in thousandths": THOUSANDTHS, "text dropped": TEXT_DROPPED},
        **STABLE_DIFFUSION,
    ),
    Family("stable-diffusion-v", pipeline=partial(stable_diffusion, prediction="v_prediction"), **STABLE_DIFFUSION),
]

"""Stable Diffusion 1.x and 2.x in the contract."""

from functools import partial

from seppo_image.families.stable_diffusion import StableDiffusionModel
from tests.contract.family import Family
from tests.contract.mistakes import TEXT_DROPPED, THOUSANDTHS
from tests.tiny import stable_diffusion

STABLE_DIFFUSION = {
    "latent_shape": (4, 8, 8),
    "model": StableDiffusionModel(base="tiny"),
    "load_options": {"safety_checker": None},
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

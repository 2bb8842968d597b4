"""Public names of the package. `__init__.py` imports them when they are first used."""

from seppo_image.commands import export as export
from seppo_image.commands import load as load
from seppo_image.commands import prepare as prepare
from seppo_image.commands import sample as sample
from seppo_image.commands import train as train
from seppo_image.commands import verify as verify
from seppo_image.config import ImageConfig as ImageConfig
from seppo_image.config import ImageData as ImageData
from seppo_image.config import ImageModel as ImageModel
from seppo_image.data import ImageFolder as ImageFolder
from seppo_image.flux import Flux as Flux
from seppo_image.pixart import PixArtSigma as PixArtSigma
from seppo_image.qwen_image import QwenImage as QwenImage
from seppo_image.run import Run as Run
from seppo_image.sana import Sana as Sana
from seppo_image.sd3 import StableDiffusion3 as StableDiffusion3
from seppo_image.sdxl import StableDiffusionXL as StableDiffusionXL
from seppo_image.stable_diffusion import StableDiffusion as StableDiffusion

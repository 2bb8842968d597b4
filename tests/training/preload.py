"""What the processes that tests fork would import each for itself."""

import accelerate  # noqa: F401
import peft  # noqa: F401
import torch
import torch.distributed.fsdp
import torch.utils.tensorboard
from diffusers import AnimateDiffPipeline, StableDiffusionPipeline  # noqa: F401

import seppo_video.commands  # noqa: F401

torch.set_num_threads(1)

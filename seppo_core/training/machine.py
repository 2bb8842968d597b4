"""What a config asks of the machine and of the launch, checked before weights load."""

import torch

from seppo_core.config.schema import Config
from seppo_core.distributed.ranks import Ranks
from seppo_core.io.lazy import import_object
from seppo_core.models.attention import check_attention
from seppo_core.models.compiling import check_compiler
from seppo_core.models.quantize import check_packages
from seppo_core.run.logging import require_wandb
from seppo_core.training.optim import check_optimizer


def check_machine(config: Config, device: torch.device, ranks: Ranks) -> None:
    """ValueError if this machine lacks a library, a compiler or a device that the run of `config` needs, or the launch
    has too few processes."""
    loop = config.loop
    if config.log.wandb is not None:
        require_wandb()
    check_packages(config.model)
    check_compiler(loop.compile)
    check_optimizer(config.optimizer, device)
    check_attention(import_object(config.model.spec.adapter), loop.attention, device)
    ranks.share(loop.batch_size, loop.micro_batch_size, loop.context_parallel)
    check_shards(config, ranks)


def check_shards(config: Config, ranks: Ranks) -> None:
    """ValueError if the model is to be shared and there is nobody to share it with."""
    if config.loop.sharded and ranks.world == 1:
        raise ValueError("loop.sharded=true shares one model between processes, and there is one; launch several")

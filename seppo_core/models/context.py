"""One item over several processes: each holds a part of a transformer's tokens, and attention trades tokens for heads.

It is diffusers' context parallelism in Ulysses' form (arXiv 2309.14509, 2023). The ring needs the log-sum-exp of
attention, which torch's SDPA does not give, and has fixed kernels of its own on GPUs alone.

What the processes of a group learn has to be added: the gather at the end hands each process back the gradient of its
own tokens alone, and whatever every one of them computes, as the embedding of the timestep, has a gradient through its
own tokens alone.
"""

import warnings

import torch
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models import ModelMixin
from diffusers.models._modeling_parallel import ContextParallelConfig, ContextParallelModelPlan, ParallelConfig
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import _set_pg_timeout

from seppo_core.config.geometry import context_problem
from seppo_core.config.model import ModelConfig
from seppo_core.distributed.ranks import PATIENCE
from seppo_core.models.adapter import Adapter

CROSS_ATTENTION = "attn2"
"""diffusers' name for attention of latents to a caption that stays whole."""


class TokenSplit:
    """Splits the tokens of every item over the `degree` processes in a row that make a group.

    Collective: all processes make one, and a forward pass needs all of a group at once.
    """

    def __init__(self, degree: int, device: torch.device, with_text: bool):
        """`with_text` says whether captions are split too (`FamilySpec.context`)."""
        self.with_text = with_text
        backend, _ = _AttentionBackendRegistry.get_active_backend()
        if backend != AttentionBackendName.NATIVE:
            raise ValueError(
                f"loop.context_parallel={degree} was tested with diffusers' attention back end native alone, and "
                f"{backend.value} is set; take DIFFUSERS_ATTN_BACKEND out of the environment"
            )
        # of diffusers' own calls, in every process
        warnings.filterwarnings("ignore", r".*_functional_collectives.*is deprecated", FutureWarning)
        world = distributed.get_world_size()
        mesh = init_device_mesh(device.type, (world // degree, 1, degree), mesh_dim_names=("data", "ring", "ulysses"))[
            "ring", "ulysses"
        ]
        context = ContextParallelConfig(ulysses_degree=degree, mesh=mesh)
        self.config = ParallelConfig(context_parallel_config=context)
        self.config.setup(distributed.get_rank(), world, device, mesh=mesh)
        for part in (context._flattened_mesh, context._ulysses_mesh):
            # else ten minutes with NCCL: one process may wait longer for a slow disk
            _set_pg_timeout(PATIENCE, part.get_group())

    def apply(self, model: ModelMixin) -> None:
        """Splits `model`, a policy or a reference, for good. What it predicts stays whole on every process."""
        # `enable_parallelism` counts accelerators, so that a CPU cannot have it, and splits cross-attention, which has
        # no backward pass for queries and keys of different lengths
        for name, module in model.named_modules():
            processor = vars(module).get("processor")
            if hasattr(processor, "_parallel_config") and (self.with_text or not name.endswith(CROSS_ATTENTION)):
                processor._parallel_config = self.config
        apply_context_parallel(model, self.config.context_parallel_config, self._plan(model))

    def _plan(self, model: ModelMixin) -> dict[str, ContextParallelModelPlan]:
        plan: dict[str, ContextParallelModelPlan] = {}
        for module, parts in model._cp_plan.items():
            if isinstance(parts, dict):
                # a timestep for every token is of models that are refused
                parts = {name: part for name, part in parts.items() if name != "timestep"}
                if not self.with_text:
                    parts = {n: part for n, part in parts.items() if not str(n).startswith("encoder_hidden_states")}
                    parts = {n: part for n, part in parts.items() if n != "encoder_attention_mask"}
            if parts:
                plan[module] = parts
        return plan


def check_context(adapter: Adapter, model: ModelConfig, degree: int, latent_shape: tuple[int, ...]) -> None:
    """ValueError if items with latents of `latent_shape`, or their captions, cannot be split into `degree` parts."""
    text = adapter.caption_shapes()["text"].shape[1]
    parts = {adapter.component: adapter.denoiser.config, "vae": adapter.pipeline.vae.config}
    if degree > 1 and (problem := context_problem(model.spec.context, degree, parts, latent_shape, text)):
        raise ValueError(problem)

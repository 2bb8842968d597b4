"""What an autoencoder of diffusers can do to need less memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from seppo_core.models.adapter import Adapter


def tile_vae(adapter: Adapter) -> None:
    """Encodes in overlapping tiles, blended: memory stops growing with the picture, and latents change a little.

    ValueError where the autoencoder cannot.
    """
    vae = adapter.pipeline.vae
    # some inherit the method and raise, some lack it
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(f"{type(vae).__name__} cannot encode in tiles; set data.vae_tiling: false") from error


def slice_vae(adapter: Adapter) -> bool:
    """Encodes a clip's frames one by one, where they are pictures to the autoencoder; False where nothing is gained.

    Changes nothing but rounding. An autoencoder of clips has one frame's latents depend on those before: what its
    slicing parts is a batch, and one clip is no less than one clip.
    """
    vae = adapter.pipeline.vae
    if not hasattr(vae, "use_slicing") or vae.use_slicing or any(isinstance(m, nn.Conv3d) for m in vae.modules()):
        return False
    vae.enable_slicing()
    return True


@contextmanager
def vae_on_cpu(adapter: Adapter) -> Iterator[None]:
    """Encodes with the CPU and its memory inside, in float32, which not all of its kernels can do without.

    Changes nothing but rounding, and takes many times as long.
    """
    vae = adapter.pipeline.vae
    device, dtypes = vae.device, [tensor.dtype for tensor in _tensors(vae)]
    # diffusers' own `to` writes to the log whenever it is given a dtype
    nn.Module.to(vae, "cpu", torch.float32)
    try:
        yield
    finally:
        vae.to(device)
        for tensor, dtype in zip(_tensors(vae), dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]

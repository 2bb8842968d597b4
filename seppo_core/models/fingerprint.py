"""Tells one frozen VAE and text encoder from another, whatever precision they are loaded in."""

from hashlib import blake2b

import torch
from torch import nn

from seppo_core.models.adapter import Adapter

VALUES_PER_PARAMETER = 64


def frozen_fingerprint(adapter: Adapter) -> str:
    """Names the parts that latents and embeddings come from: all modules of the pipeline but the denoiser.

    A cache made with others must not be trained on. Hashed are class, shapes, and the signs of a few values of every
    parameter: signs stay what they are in bfloat16 and, of all that is not too small for it, in float16; digits do not.
    """
    digest = blake2b(digest_size=8)
    names = []
    for name, module in sorted(adapter.pipeline.components.items()):
        if isinstance(module, nn.Module) and module is not adapter.denoiser:
            names.append(type(module).__name__)
            _hash(digest, name, module)
    return f"{'+'.join(names)} {digest.hexdigest()}"


def denoiser_fingerprint(adapter: Adapter) -> str:
    """Names the denoiser in the same way; to be asked for before anything is tuned or trained."""
    digest = blake2b(digest_size=8)
    _hash(digest, adapter.component, adapter.denoiser)
    return f"{type(adapter.denoiser).__name__} {digest.hexdigest()}"


def _hash(digest: blake2b, name: str, module: nn.Module) -> None:
    digest.update(type(module).__name__.encode())
    for key, parameter in module.named_parameters():
        values = parameter.detach().flatten()
        some = values[:: max(1, len(values) // VALUES_PER_PARAMETER)]
        digest.update(f"{name}.{key}{tuple(parameter.shape)}".encode())
        # what float16 makes zero has no sign there
        digest.update((some.to(torch.float16) > 0).to("cpu", torch.uint8).numpy().tobytes())

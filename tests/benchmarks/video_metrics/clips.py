"""Small clips, and random weights at a scale at which every part of a network changes its result."""

import torch
from torch import Tensor

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def clip(frames: int = 4, height: int = 32, width: int = 40, seed: int = 0) -> Tensor:
    """Smooth 8-bit noise that moves: (f, 3, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, frames + 2, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (frames, height, width), mode="trilinear")[0]
    noisy = smooth + 0.1 * torch.randn(smooth.shape, generator=generator)
    return (noisy.clamp(0, 1) * 255).round().to(torch.uint8).transpose(0, 1).contiguous()


def random_state(shapes: Shapes, seed: int = 0) -> State:
    """float64. Variances are positive, scales about one, matrices keep the size of what they multiply."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        if key.endswith("running_var"):
            value = value.square() + 0.5
        elif len(shape) == 1:
            value = 0.2 * value + float(key.endswith("weight"))
        elif key.startswith("lin"):
            value = value.abs()
        elif key.endswith("weight"):
            value = value * (2 / value[0].numel()) ** 0.5
        state[key] = value
    return state


def on_meta(shapes: Shapes) -> State:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def shapes_of(module: torch.nn.Module) -> Shapes:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}

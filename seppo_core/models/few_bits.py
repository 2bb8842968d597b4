"""What is computed from weights in fewer bits where bitsandbytes and torchao have no layer of their own."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

LEVELS = 127
"""The number of 8 bits that a row's largest weight becomes in LLM.int8()."""


def in_full(matrix: nn.Linear, dtype: torch.dtype) -> Tensor:
    """The numbers (rows, columns) that a quantised matrix holds at this moment."""
    weight = matrix.weight
    if getattr(weight, "quant_state", None) is not None:
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state).to(dtype)
    if getattr(weight, "SCB", None) is not None:
        return (weight.data * (weight.SCB / LEVELS)[:, None]).to(dtype)
    return weight.dequantize().to(dtype)


def multiplied(layer: nn.Linear, x: Tensor) -> Tensor:
    """The product (…, rows) of x (…, columns) and a bitsandbytes layer in 4 bits, in x's dtype."""
    return _Multiplied.apply(x.to(layer.compute_dtype), layer).to(x.dtype)


class _Multiplied(torch.autograd.Function):
    """Multiplies by the matrix of a layer in 4 bits as it is at that moment.

    bitsandbytes' own product keeps the weights that its first pass saw, past recomputation, until the backward pass, so
    that every block that has gone back to the CPU would stay on the device.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, layer: nn.Linear) -> Tensor:
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return nn.functional.linear(x, in_full(layer, x.dtype), bias)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ in_full(ctx.layer, gradient.dtype), None


class FewBitConvolution(nn.Module):
    """A frozen convolution without groups, whose weights (C_out, C_in, …) are kept as a matrix (C_out, C_in · …).

    `matrix` is that one, still to be quantised. `compute` is the dtype that weights and inputs are convolved in.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d, compute: torch.dtype):
        super().__init__()
        weight = convolution.weight
        self.size, self.compute = weight.shape, compute
        self.matrix = nn.Linear(weight[0].numel(), len(weight), bias=False, device="meta")
        self.matrix.weight = nn.Parameter(weight.data.flatten(1), requires_grad=False)
        self.bias = convolution.bias
        self.geometry = (convolution.stride, convolution.padding, convolution.dilation)

    def forward(self, x: Tensor) -> Tensor:
        # autocast has plain convolutions give its own dtype
        given = self.compute if torch.is_autocast_enabled(x.device.type) else x.dtype
        return _Convolved.apply(x.to(self.compute), self).to(given)

    def weights(self) -> Tensor:
        """What it holds at this moment, written out."""
        return in_full(self.matrix, self.compute).reshape(self.size)


class _Convolved(torch.autograd.Function):
    """Convolves; the weights are written out once more in the backward pass, so that none are kept until then."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, layer: FewBitConvolution) -> Tensor:
        ctx.layer, ctx.size = layer, x.shape
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        convolve = nn.functional.conv2d if x.ndim == 4 else nn.functional.conv3d
        return convolve(x, layer.weights(), bias, *layer.geometry)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        of_input = nn.grad.conv2d_input if gradient.ndim == 4 else nn.grad.conv3d_input
        return of_input(ctx.size, ctx.layer.weights(), gradient, *ctx.layer.geometry), None

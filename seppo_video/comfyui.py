"""What ComfyUI calls the layers of a LoRA of each video family."""

import re
from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor, nn

from seppo_core.export.comfyui import Layer, fused, named

WAN = {"attn1": "self_attn", "attn2": "cross_attn", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o"}
"""The model's own names by diffusers'."""
HUNYUAN = {
    "context_embedder.token_refiner.refiner_blocks": "txt_in.individual_token_refiner.blocks",
    "single_transformer_blocks": "single_blocks",
    "transformer_blocks": "double_blocks",
}
QKV = {
    "to_q": ("img_attn_qkv", 0), "to_k": ("img_attn_qkv", 1), "to_v": ("img_attn_qkv", 2),
    "add_q_proj": ("txt_attn_qkv", 0), "add_k_proj": ("txt_attn_qkv", 1), "add_v_proj": ("txt_attn_qkv", 2),
}  # fmt: skip
"""The matrix that a projection is a third of in HunyuanVideo's double blocks, and which third."""
ALONE = {"to_out.0": "img_attn_proj", "to_add_out": "txt_attn_proj"}


def wan(denoiser: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """Wan 2.1: the model's own names."""
    words = re.compile("|".join(map(re.escape, WAN)))
    return named(layers, lambda module: f"diffusion_model.{words.sub(lambda found: WAN[found[0]], module)}")


def ltx(denoiser: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """LTX-Video: the model's own names, which are diffusers'."""
    return named(layers, lambda module: f"diffusion_model.{module}")


def hunyuan(denoiser: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """HunyuanVideo: the model's own names; where it has one matrix for several of diffusers', they are put together."""
    found: dict[str, Layer] = {}
    together: dict[tuple[str, str], dict[int, Layer]] = defaultdict(dict)
    for module, layer in layers.items():
        block, _, projection = module.partition(".attn.")
        if projection in QKV:
            matrix, place = QKV[projection]
            together[block, matrix][place] = layer
        else:
            found[_hunyuan_name(block, ALONE[projection])] = layer
    for (block, matrix), parts in together.items():
        outputs = [len(next(iter(parts.values())).up)] * 3
        if block.startswith("single_transformer_blocks"):
            # the first matrix of a single block holds the first of its MLP too
            outputs.append(denoiser.get_submodule(f"{block}.proj_mlp").out_features)
        found[_hunyuan_name(block, matrix)] = fused([parts.get(place) for place in range(len(outputs))], outputs)
    return named(found, lambda module: f"diffusion_model.{module}")


def _hunyuan_name(block: str, matrix: str) -> str:
    start = next(start for start in HUNYUAN if block.startswith(start))
    own = HUNYUAN[start] + block.removeprefix(start)
    if start == "single_transformer_blocks":
        return f"{own}.linear1"
    return f"{own}.{matrix.replace('img_', 'self_') if own.startswith('txt_in') else matrix}"


def animatediff(denoiser: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """AnimateDiff's motion LoRA: its own names, which have no alphas, so that these are in the upper factors."""
    tensors = {}
    for module, layer in layers.items():
        place, _, rest = module.partition(".transformer_blocks.")
        block, attention, projection = re.fullmatch(r"(\d+)\.attn([12])\.(to_\w+)(?:\.0)?", rest).groups()
        key = (
            f"{place}.temporal_transformer.transformer_blocks.{block}.attention_blocks.{int(attention) - 1}"
            f".processor.{projection}_lora"
        )
        tensors |= {f"{key}.down.weight": layer.down, f"{key}.up.weight": layer.up * layer.strength}
    return tensors

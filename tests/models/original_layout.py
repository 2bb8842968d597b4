"""Weights as the first releases named them, from a diffusers pipeline: the inverse of what diffusers translates.

Written from the published files' names; it shares no table with diffusers.
"""

import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests import tiny

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
OPEN_CLIP = [
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.token_embedding", "token_embedding"),
    ("encoder.layers", "transformer.resblocks"),
    ("final_layer_norm", "ln_final"),
    ("layer_norm", "ln_"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.q_proj.", "attn.in_proj_"),
    ("self_attn", "attn"),
]
FLUX = [
    ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
    ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
    ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
    ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
    ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
    ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
    ("context_embedder", "txt_in"),
    ("x_embedder", "img_in"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("norm1.linear", "img_mod.lin"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("attn.norm_added_q.weight", "txt_attn.norm.query_norm.scale"),
    ("attn.norm_added_k.weight", "txt_attn.norm.key_norm.scale"),
    ("attn.norm_q.weight", "img_attn.norm.query_norm.scale"),
    ("attn.norm_k.weight", "img_attn.norm.key_norm.scale"),
]
FLUX_SINGLE = [
    ("attn.norm_q.weight", "norm.query_norm.scale"), ("attn.norm_k.weight", "norm.key_norm.scale"),
    ("proj_out", "linear2"), ("norm.linear", "modulation.lin"),
]  # fmt: skip
FUSED = {
    "attn.to_q": ("img_attn.qkv", "attn.to_k", "attn.to_v"),
    "attn.add_q_proj": ("txt_attn.qkv", "attn.add_k_proj", "attn.add_v_proj"),
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet(module: nn.Module) -> dict[str, Tensor]:
    """input_blocks count all layers from the first convolution on, each downsampler as one; output_blocks likewise."""
    step = module.config.layers_per_block + 1
    attended = {
        name.rsplit(".", 1)[0] for name, _ in module.named_modules() if re.fullmatch(r"up.*attentions\.\d", name)
    }
    found = {}
    for key, tensor in module.state_dict().items():
        if match := re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", key):
            side, block, kind, layer, rest = match.groups()
            place = int(block) * step + int(layer)
            start = f"input_blocks.{place + 1}" if side == "down" else f"output_blocks.{place}"
            name = f"{start}.0.{_resnet(rest)}" if kind == "resnets" else f"{start}.1.{rest}"
        elif match := re.fullmatch(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.+)", key):
            name = f"input_blocks.{int(match[1]) * step + step}.0.op.{match[2]}"
        elif match := re.fullmatch(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.+)", key):
            behind = 2 if f"up_blocks.{match[1]}.attentions" in attended else 1
            name = f"output_blocks.{int(match[1]) * step + step - 1}.{behind}.conv.{match[2]}"
        elif match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", key):
            resnet = match[1] == "resnets"
            name = f"middle_block.{2 * int(match[2]) if resnet else 1}.{_resnet(match[3]) if resnet else match[3]}"
        else:
            name = _replaced(key, ENDS)
        found[f"model.diffusion_model.{name}"] = tensor
    return found


def vae(module: nn.Module) -> dict[str, Tensor]:
    """Levels of the decoder are counted from the finest; attention is made of 1 × 1 convolutions."""
    last = len(module.config.block_out_channels) - 1
    found = {}
    for key, tensor in module.state_dict().items():
        name = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block", name)
        name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
        name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets", lambda m: f"decoder.up.{last - int(m[1])}.block", name)
        name = re.sub(
            r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{last - int(m[1])}.upsample", name
        )
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        if match := re.fullmatch(r"(.+)mid_block\.attentions\.0\.(.+)", name):
            name = f"{match[1]}mid.attn_1.{_replaced(match[2], VAE_ATTENTION)}"
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
        found[f"first_stage_model.{name}"] = tensor
    return found


def clip(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """As transformers named it when these files were made, with a table that it has dropped since."""
    found = {f"{prefix}text_model.{k.removeprefix('text_model.')}": v for k, v in module.state_dict().items()}
    length = module.config.max_position_embeddings
    return found | {f"{prefix}text_model.embeddings.position_ids": torch.arange(length)[None]}


def open_clip(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The text encoders of SDXL (the second) and of Stable Diffusion 2: a layer's three projections are one.

    That of Stable Diffusion 2 was saved whole, with a projection and a last layer that no pipeline uses.
    """
    state = {key.removeprefix("text_model."): tensor for key, tensor in module.state_dict().items()}
    width = module.config.hidden_size
    unused = {
        f"{prefix}transformer.resblocks.23.{name}": torch.ones(3 * width, width)
        for name in ("attn.in_proj_weight", "attn.out_proj.weight")
    }
    projection = state.get("text_projection.weight", torch.ones(width, width)).T
    found = {f"{prefix}logit_scale": torch.ones(()), f"{prefix}text_projection": projection}
    found |= {} if "text_projection.weight" in state else unused
    for key, tensor in state.items():
        if key.endswith(("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias", "text_projection.weight")):
            continue
        if ".q_proj." in key:
            tensor = torch.cat([state[key.replace("q_proj", f"{one}_proj")] for one in "qkv"])
        for ours, theirs in OPEN_CLIP:
            key = key.replace(ours, theirs)
        found[prefix + key] = tensor
    return found


def flux(module: nn.Module) -> dict[str, Tensor]:
    """Query, key and value are one layer; in the blocks of one stream, the first layer of the MLP is in it too."""
    state, found = module.state_dict(), {}
    for key, tensor in state.items():
        match = re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)\.(weight|bias)", key)
        if match is None:
            if key.startswith("norm_out.linear"):
                # scale and shift stood the other way round
                found[key.replace("norm_out.linear", "final_layer.adaLN_modulation.1")] = tensor.roll(
                    len(tensor) // 2, 0
                )
            else:
                found[_first(key.replace("proj_out", "final_layer.linear"), FLUX)] = tensor
            continue
        single, number, name, end = match.groups()
        start = f"{'single' if single else 'double'}_blocks.{number}"
        before = key.removesuffix(f"{name}.{end}")
        if single and name == "attn.to_q":
            parts = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
            found[f"{start}.linear1.{end}"] = torch.cat([state[f"{before}{part}.{end}"] for part in parts])
        elif not single and name in FUSED:
            fused, *others = FUSED[name]
            found[f"{start}.{fused}.{end}"] = torch.cat([state[f"{before}{part}.{end}"] for part in (name, *others)])
        elif name not in ("attn.to_k", "attn.to_v", "proj_mlp", "attn.add_k_proj", "attn.add_v_proj"):
            found[f"{start}.{_first(f'{name}.{end}', FLUX_SINGLE if single else FLUX)}"] = tensor
    return found


def write(file: Path, *parts: dict[str, Tensor]) -> Path:
    tensors = {name: tensor.contiguous() for part in parts for name, tensor in part.items()}
    save_file(tensors, file, {"format": "pt"})
    return file


def lay_out(room: Path, *more: dict[str, Tensor]):
    """Writes a tiny Stable Diffusion as a diffusers folder, `base`, and in one file, `one.safetensors`, that has the
    tensors `more` too; `rest` holds what the file lacks. The pipeline itself."""
    pipeline = tiny.stable_diffusion(room / "words")
    pipeline.save_pretrained(room / "base")
    shutil.copytree(room / "base", room / "rest", ignore=shutil.ignore_patterns("*.safetensors"))
    encoder = clip(pipeline.text_encoder, "cond_stage_model.transformer.")
    write(room / "one.safetensors", unet(pipeline.unet), vae(pipeline.vae), encoder, *more)
    return pipeline


def _first(key: str, names: list[tuple[str, str]]) -> str:
    """`key` with the first of `names` that it begins with exchanged."""
    ours, theirs = next((pair for pair in names if key.startswith(pair[0])), ("", ""))
    return theirs + key.removeprefix(ours)


def _resnet(rest: str) -> str:
    return _replaced(rest, RESNET)


def _replaced(key: str, names: dict[str, str]) -> str:
    module, _, last = key.rpartition(".")
    return f"{names[module]}.{last}" if module in names else key

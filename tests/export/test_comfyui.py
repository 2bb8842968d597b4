"""LoRAs under ComfyUI's names: diffusers' own converters read them back, and each layer acts at its own strength."""

import re
from dataclasses import replace

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_hunyuan_video_lora_to_diffusers
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seppo_core.config.options import ExportRequest, check_export
from seppo_core.config.schema import TuneConfig
from seppo_core.export.comfyui import FILE, Layer, fused, policy_layers, write_comfyui
from seppo_core.models.tuning import POLICY, lora_layers, tune_lora
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.pixart import PixArtSigmaModel
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_video.comfyui import hunyuan
from seppo_video.config import VideoConfig, VideoData
from seppo_video.families.animatediff import AnimateDiffModel
from tests.contract.rows import FAMILIES

ROWS = {row.name: row for row in FAMILIES}
READ = {
    "stable-diffusion": "lora_unet_", "sdxl": "lora_unet_", "flux-dev": "lora_transformer_", "sd3": "transformer.",
    "qwen-image": "diffusion_model.", "wan": "diffusion_model.", "ltx": "diffusion_model.",
}  # fmt: skip
"""Rows whose file diffusers reads as it is, and how its keys begin."""
QUICK = ("stable-diffusion", "wan")
QKV = ("to_q", "to_k", "to_v")
WAN_BLOCK = {"blocks_0_ffn_0": ["blocks.0.ffn.net.0.proj"], "blocks_0_ffn_2": ["blocks.0.ffn.net.2"]} | {
    f"blocks_0_{own}_attn_{one}": [f"blocks.0.{theirs}.{projection}"]
    for own, theirs in (("self", "attn1"), ("cross", "attn2"))
    for one, projection in zip("qkvo", (*QKV, "to_out.0"), strict=True)
}
"""All layers of a block by the model's own names, which its reader wants to be there."""


def trained(name: str, folder, scope: str = "all"):
    """An adapter whose policy's layers have random factors, and strengths that differ."""
    adapter = ROWS[name].adapter(folder)
    tune_lora(adapter.denoiser, adapter.lora_targets[scope], 2, 3)
    generator = torch.Generator().manual_seed(0)
    for number, layer in enumerate(lora_layers(adapter.denoiser)):
        for factor in (layer.lora_A, layer.lora_B):
            weight = factor[POLICY].weight
            weight.data = torch.randn(weight.shape, generator=generator)
        # powers of two, so that a reader may multiply or divide
        layer.scaling[POLICY] = 2.0 ** (number % 3 - 1)
    return adapter


def changes(layers: dict[str, Layer]) -> dict[str, Tensor]:
    return {name: layer.strength * (layer.up.double() @ layer.down.double()) for name, layer in layers.items()}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in READ])
def test_diffusers_reads_every_layer_at_its_strength(name, tmp_path):
    adapter = trained(name, tmp_path)
    expected = changes(policy_layers(adapter.denoiser))
    write_comfyui(adapter, tmp_path, adapter_spec(name).comfyui)
    written = load_file(tmp_path / FILE)
    assert len(written) == 3 * len(expected)
    assert all(key.startswith(READ[name]) for key in written)
    assert {float(value) for key, value in written.items() if key.endswith(".alpha")} == {1.0, 2.0, 4.0}

    # `model.lora` is read by diffusers' converters alone
    other = ROWS[name].adapter(tmp_path)
    other.load_lora(str(tmp_path / FILE), POLICY)
    found = changes(policy_layers(other.denoiser))
    assert found.keys() == expected.keys()
    for layer, change in expected.items():
        assert torch.equal(found[layer], change), layer


def adapter_spec(name: str):
    return ROWS[name].model.spec


def test_layers_put_together_change_what_they_change_alone():
    generator = torch.Generator().manual_seed(1)
    q, v = (
        Layer(*(torch.randn(shape, generator=generator) for shape in ((rank, 5), (4, rank))), strength)
        for rank, strength in ((2, 0.5), (3, 2.0))
    )
    both = fused([q, None, v], [4, 6, 4])
    expected = torch.cat([*changes({"": q}).values(), torch.zeros(6, 5), *changes({"": v}).values()])
    assert both.strength == 1 and len(both.down) == 5
    assert torch.allclose(changes({"": both})[""], expected, rtol=1e-6)


def test_hunyuan_is_read_by_diffusers():
    """At the width that its reader takes for granted."""
    width, generator = 3072, torch.Generator().manual_seed(2)

    def layer(outputs: int) -> Layer:
        down, up = (torch.randn(shape, generator=generator) for shape in ((1, width), (outputs, 1)))
        return Layer(down, up, 2.0)

    double, single = "transformer_blocks.3.attn", "single_transformer_blocks.7.attn"
    names = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    layers = {f"{double}.{name}": layer(width) for name in names}
    layers |= {f"{single}.{name}": layer(width) for name in ("to_q", "to_k", "to_v")}
    denoiser = nn.Module()
    block = nn.Module()
    block.proj_mlp = nn.Linear(1, 4 * width)
    denoiser.single_transformer_blocks = nn.ModuleDict({"7": block})
    written = hunyuan(denoiser, layers)
    alphas = {key: written.pop(key) for key in list(written) if key.endswith(".alpha")}
    assert sorted({key.split(".lora_")[0] for key in written}) == [
        f"diffusion_model.{name}"
        for name in ("double_blocks.3.img_attn_proj", "double_blocks.3.img_attn_qkv", "double_blocks.3.txt_attn_proj",
                     "double_blocks.3.txt_attn_qkv", "single_blocks.7.linear1")
    ]  # fmt: skip
    for key, alpha in alphas.items():
        # as the reader of `model.lora` does, since this converter knows no alphas
        up, rank = key.replace(".alpha", ".lora_B.weight"), len(written[key.replace(".alpha", ".lora_A.weight")])
        written[up] = written[up] * (alpha / rank)
    read = _convert_hunyuan_video_lora_to_diffusers(written)
    for name, one in layers.items():
        down, up = (read[f"transformer.{name}.{factor}.weight"] for factor in ("lora_A", "lora_B"))
        assert torch.equal(up @ down, one.strength * (one.up @ one.down)), name
    assert not read[f"transformer.{single.removesuffix('.attn')}.proj_mlp.lora_B.weight"].any()


def test_hunyuans_refiner_has_the_models_own_names():
    down, up = torch.randn(1, 4), torch.randn(4, 1)
    start = "context_embedder.token_refiner.refiner_blocks.1.attn"
    written = hunyuan(nn.Module(), {f"{start}.{name}": Layer(down, up, 1.0) for name in ("to_v", "to_out.0")})
    own = "diffusion_model.txt_in.individual_token_refiner.blocks.1.self_attn"
    assert {key.split(".lora_")[0].removesuffix(".alpha") for key in written} == {f"{own}_qkv", f"{own}_proj"}
    qkv = written[f"{own}_qkv.lora_B.weight"] @ written[f"{own}_qkv.lora_A.weight"]
    assert torch.equal(qkv, torch.cat([torch.zeros(8, 4), up @ down]))


@pytest.mark.slow
def test_a_motion_lora_has_animatediffs_names(tmp_path):
    adapter = trained("animatediff", tmp_path, "motion")
    expected = changes(policy_layers(adapter.denoiser))
    write_comfyui(adapter, tmp_path, AnimateDiffModel.spec.comfyui)
    written = load_file(tmp_path / FILE)
    assert not any("alpha" in key for key in written) and len(written) == 2 * len(expected)
    found = {}
    for key in written:
        if key.endswith(".down.weight"):
            # the module that AnimateDiff's own code puts the layer on, as diffusers calls it
            ((own, _),) = [re.fullmatch(r"(.*)\.processor\.(\w+)_lora\.down\.weight", key).groups()]
            projection = re.search(r"processor\.(\w+)_lora", key)[1]
            projection = "to_out.0" if projection == "to_out" else projection
            (name,) = convert_animatediff_checkpoint_to_diffusers({f"{own}.{projection}": None})
            found[name] = written[key.replace(".down.", ".up.")].double() @ written[key].double()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_what_comfyui_cannot_read_is_refused_in_words():
    image = ImageConfig(
        run="r",
        model=StableDiffusionModel(base="b"),
        data=ImageData(source="s", cache="c"),
        tune=TuneConfig(mode="lora"),
    )
    clips = VideoConfig(
        run="r", model=AnimateDiffModel(base="b", motion_adapter="m"), data=VideoData(source="s", cache="c"),
        tune=TuneConfig(mode="lora", scope="spatial"),
    )  # fmt: skip
    request = ExportRequest(format="comfyui")
    check_export(image, request)
    check_export(replace(clips, tune=TuneConfig(mode="lora", scope="motion")), request)
    for config, asked, message in [
        (replace(image, tune=TuneConfig(mode="full")), request, "is for LoRAs, not for --kind full"),
        (image, replace(request, kind="full"), "is for LoRAs, not for --kind full"),
        (replace(image, model=PixArtSigmaModel(base="b")), request, "ComfyUI has no LoRA format for pixart"),
        (clips, request, "tune.scope=spatial has no single file there, one of tune.scope=motion has"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_export(config, asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        # in the original model's names, where query, key and value are one matrix
        ("flux-dev", {"double_blocks_0_img_attn_qkv": [f"transformer_blocks.0.attn.{one}" for one in QKV],
                      "double_blocks_0_txt_attn_proj": ["transformer_blocks.0.attn.to_add_out"]}),
        ("wan", WAN_BLOCK),
    ],
)  # fmt: skip
def test_kohyas_files_of_transformers_act_at_alpha_by_rank(tmp_path, name, layers):
    adapter = ROWS[name].adapter(tmp_path)
    generator, tensors, expected = torch.Generator().manual_seed(3), {}, {}
    for number, (key, modules) in enumerate(layers.items()):
        shapes = [adapter.denoiser.get_submodule(one).weight.shape for one in modules]
        rows, columns = sum(shape[0] for shape in shapes), shapes[0][1]
        down = torch.randn((2, columns), generator=generator)
        up, alpha = torch.randn((rows, 2), generator=generator), (1.0, 4.0)[number % 2]
        tensors |= {f"lora_unet_{key}.lora_down.weight": down, f"lora_unet_{key}.lora_up.weight": up}
        tensors[f"lora_unet_{key}.alpha"] = torch.tensor(alpha)
        change = alpha / 2 * (up.double() @ down.double())
        expected |= dict(zip(modules, change.chunk(len(modules)), strict=True))
    save_file(tensors, tmp_path / "kohya.safetensors")
    adapter.load_lora(str(tmp_path / "kohya.safetensors"), POLICY)
    found = changes(policy_layers(adapter.denoiser))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[module], expected[module]) for module in found)


@pytest.mark.slow
def test_a_file_that_a_converter_does_not_know_is_one_line(tmp_path):
    adapter = ROWS["wan"].adapter(tmp_path)
    save_file({"lora_unet_blocks_0_self_attn_q.lora_down.weight": torch.zeros(2, 24)}, tmp_path / "part.safetensors")
    with pytest.raises(
        ValueError, match=r"names or sizes that diffusers' converter does not know \(KeyError: .*lora_up"
    ):
        adapter.load_lora(str(tmp_path / "part.safetensors"), POLICY)

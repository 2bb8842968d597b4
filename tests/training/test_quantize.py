"""Frozen weights in fewer bits: what is learnt on them is what a plain base of the same values would have learnt.

bitsandbytes and torchao speak up at every start beside a CPU's torch, so that `make parity` alone has them.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import SanaTransformer2DModel, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seppo_core.cache.manifest import Manifest
from seppo_core.cache.reader import WinnerCache
from seppo_core.config.options import ExportRequest, SampleRequest
from seppo_core.methods.reference import LoraView
from seppo_core.models.compiling import compile_blocks
from seppo_core.models.offload import OffloadedBlocks, _Block
from seppo_core.models.quantize import layers, quantize, quantize_texts
from seppo_core.models.tuning import lora_layers, trainable_parameters, trainable_state, tune_lora
from seppo_core.plan.memory import in_fewer_bits
from seppo_core.plan.weights import _matrices
from seppo_core.run.history import read_metrics
from seppo_image import commands
from tests import tiny
from tests.contract.rows import FAMILIES
from tests.contract.test_runs import base_of, bases, config_of, write_winners  # noqa: F401
from tests.dying import killed_before_update
from tests.training.test_resume import assert_same_run, final

bitsandbytes = pytest.importorskip("bitsandbytes", reason="not installed; `make parity` has it")
torchao = pytest.importorskip("torchao", reason="not installed; `make parity` has it")
CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
KINDS = ["nf4", "int8", "int8wo", "float8wo"]
ERROR = {"nf4": 0.12, "int8": 0.02, "int8wo": 0.02, "float8wo": 0.05}
"""Largest relative error of a matrix."""
CONVOLUTIONS = {
    "strided": nn.Conv2d(64, 8, 3, stride=2, padding=1),
    "pointwise": nn.Conv2d(64, 8, 1, bias=False),
    "frames": nn.Conv3d(64, 8, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1)),
}


def tuned(base: nn.Module | None = None) -> nn.Module:
    unet = base or tiny.unet()
    tune_lora(unet, ["to_q", "to_k", "to_v", "to_out.0"], rank=2)
    generator = torch.Generator().manual_seed(5)
    for parameter in trainable_parameters(unet).values():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return unet.eval()


def values(layer: nn.Module) -> Tensor:
    """The numbers that a layer computes with, as its library gives them back."""
    layer = getattr(layer, "matrix", layer)
    weight = layer.weight
    if isinstance(layer, bitsandbytes.nn.Linear4bit):
        return bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    if isinstance(layer, bitsandbytes.nn.Linear8bitLt):
        return weight.CB.float() * weight.SCB[:, None] / 127
    return weight.dequantize()


def learnt(unet: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """A prediction, and the gradients that reach the LoRA."""
    generator = torch.Generator().manual_seed(1)
    shapes, device = [(2, 4, 8, 8), (2, 16, tiny.TEXT_WIDTH)], next(unet.parameters()).device
    x, text = (torch.randn(*shape, generator=generator).to(device) for shape in shapes)
    y = unet(x, timestep=torch.tensor([3, 700], device=device), encoder_hidden_states=text).sample
    y.square().mean().backward()
    return y.detach(), {name: p.grad for name, p in trainable_parameters(unet).items()}


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_as_on_a_plain_base_of_the_same_values(kind, device):
    unet, plain = tuned().to(device), tuned().to(device)
    whole_blocks = lambda layer: kind != "nf4" or layer.weight[0].numel() % 64 == 0  # noqa: E731
    before = {name: layer.weight.clone() for name, layer in layers(unet) if whole_blocks(layer)}
    quantize(unet, kind, torch.float32, torch.device(device))
    left = [layer for _, layer in layers(unet) if type(layer.weight) is nn.Parameter]
    assert len(before) >= 8 and not any(map(whole_blocks, left))
    assert any(type(plain.get_submodule(name)) is nn.Conv2d for name in before)
    with torch.no_grad():
        for name, weight in before.items():
            held = values(unet.get_submodule(name)).reshape(weight.shape)
            assert 0 < apart(held, weight) < ERROR[kind]
            plain.get_submodule(name).weight.copy_(held)
    (y, gradients), (expected, wanted) = learnt(unet), learnt(plain)
    # LLM.int8() rounds what comes in, too; a card's kernels multiply in another order, and int8 in half precision
    tolerance = 0.02 if kind == "int8" else 1e-5 if device == "cpu" else 1e-3
    assert apart(y, expected) < tolerance
    assert gradients.keys() == wanted.keys()
    assert max(apart(gradients[name], wanted[name]) for name in wanted) < 2 * tolerance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", CONVOLUTIONS)
def test_a_convolution_is_that_of_the_numbers_it_holds(form, kind):
    convolution = CONVOLUTIONS[form]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([copy.deepcopy(convolution).requires_grad_(False)])

    model, plain = Model(), copy.deepcopy(convolution).requires_grad_(False)
    quantize(model, kind, torch.float32, CPU)
    plain.weight.copy_(values(model.layers[0]).reshape(plain.weight.shape))
    x, other = (torch.randn(2, 64, *[6] * (plain.weight.ndim - 2), requires_grad=True) for _ in range(2))
    other.data = x.data.clone()
    ours, theirs = model.layers[0](x), plain(other)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_a_view_of_the_same_weights_and_ties(kind):
    unet = tuned()
    quantize(unet, kind, torch.float32, CPU)
    parameters = sum(1 for _ in unet.parameters())
    view = LoraView(unet)
    assert sum(1 for _ in unet.parameters()) == parameters + 2 * len(lora_layers(unet))
    view.load(trainable_state(unet))
    arguments = torch.ones(1, 4, 8, 8), torch.tensor([5]), torch.ones(1, 16, tiny.TEXT_WIDTH)
    with view.active() as frozen:
        held = frozen(*arguments).sample
    torch.testing.assert_close(unet(*arguments).sample, held)


def sana() -> nn.Module:
    """A transformer whose blocks hold convolutions, with and without groups."""
    torch.manual_seed(0)
    return SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=32, num_layers=2, patch_size=1,
        num_cross_attention_heads=2, cross_attention_head_dim=32, cross_attention_dim=64, sample_size=8,
        caption_channels=tiny.TEXT_WIDTH, mlp_ratio=2.0,
    ).requires_grad_(False)  # fmt: skip


# torch hides it as it compiles, but not from a filter that makes errors of warnings
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("base", [tiny.unet, sana])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_blocks_read_it_as_plain_ones_do(kind, base):
    found = []
    for compiled in (False, True):
        unet = tuned(base())
        quantize(unet, kind, torch.float32, CPU)
        if compiled:
            compile_blocks(unet, "eager")
        found.append(learnt(unet))
    (expected, wanted), (y, gradients) = found
    assert torch.equal(y, expected)
    assert all(torch.equal(gradients[name], gradient) for name, gradient in wanted.items())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_what_plan_counts(kind):
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Linear(1024, 512).requires_grad_(False) for _ in range(3)])
    whole = sum(p.nbytes for p in model.parameters())
    planned = in_fewer_bits(whole, _matrices(model), kind)
    quantize(model, kind, torch.float32, CPU)
    held = 0
    for layer in model.layers:
        weight = layer.weight
        if kind == "nf4":
            parts = [weight, weight.quant_state.absmax, weight.quant_state.state2.absmax]
        elif kind == "int8":
            parts = [weight, weight.SCB]
        else:
            parts = [getattr(weight, name) for name in weight.__tensor_flatten__()[0]]
        held += layer.bias.nbytes + sum(part.nbytes for part in parts if torch.is_tensor(part))
    assert planned == pytest.approx(held, rel=0.005) and planned < 0.3 * whole


@pytest.mark.parametrize("kind", ["nf4", "int8wo"])
def test_a_run_on_it_goes_on_bit_for_bit_and_exports_a_lora_for_the_plain_base(workshop, tmp_path, kind):
    def config(name: str, quantize: str | None = kind):
        whole = workshop.config(tmp_path / name, "lora")
        return replace(whole, model=replace(whole.model, quantize=quantize))

    commands.train(config("undisturbed"))
    with killed_before_update(4):
        commands.train(config("run"))
    commands.train(config("run"))
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")

    # the first update is of equal weights: an exact tie
    first = read_metrics(tmp_path / "run")[0]
    assert first["winner_gap"] == 0 and first["loss"] == pytest.approx(torch.log(torch.tensor(2.0)).item())

    commands.train(config("plain", None))
    a, b = final(tmp_path / "run"), final(tmp_path / "plain")
    assert a.keys() == b.keys() and any(not torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(ValueError, match=r"model\.quantize"):
        commands.train(config("run", None))

    for name, form in (("run", kind), ("plain", None)):
        commands.export(config(name, form), ExportRequest(kind="lora", out=str(tmp_path / f"{name}-lora")))
    ours, plain = (load_file(next((tmp_path / f"{n}-lora").glob("*.safetensors"))) for n in ("run", "plain"))
    assert {n: (t.shape, t.dtype) for n, t in ours.items()} == {n: (t.shape, t.dtype) for n, t in plain.items()}
    pipeline = StableDiffusionPipeline.from_pretrained(workshop.base, safety_checker=None)
    pipeline.load_lora_weights(tmp_path / "run-lora")
    assert not [m for m in pipeline.unet.modules() if "bitsandbytes" in type(m).__module__]
    commands.export(config("run"), ExportRequest(kind="full", out=str(tmp_path / "full")))
    StableDiffusionPipeline.from_pretrained(tmp_path / "full", safety_checker=None)
    commands.sample(config("run"), SampleRequest(prompts=("a red wall",), steps=2, out=str(tmp_path / "samples")))
    assert list((tmp_path / "samples").rglob("*.png"))


class Row(nn.Module):
    """Six blocks, recomputed in the backward pass, between layers of other sizes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(8, 128)
        self.layers = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128)) for _ in range(6)]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = x + checkpoint(layer, x, use_reentrant=False)
        return x


@pytest.mark.parametrize("kind", ["nf4", "int8wo", "float8wo"])
def test_in_fewer_bits_and_on_the_cpu_at_once(kind, monkeypatch):
    """The same numbers as of blocks that stay, and what was fetched is freed when the block has computed."""
    found, fetched, most = [], {}, 0
    put = _Block._put

    def recorded(self, tensors):
        put(self, tensors)
        storages = [tensor.untyped_storage() for tensor in tensors if tensor.numel()]
        fetched[id(self)] = fetched.get(id(self), []) + storages

    def count(*_):
        # a storage that only this list holds was freed
        nonlocal most
        alive = [any(torch._C._storage_Use_Count(s._cdata) > 1 for s in held) for held in fetched.values()]
        most = max(most, sum(alive))

    monkeypatch.setattr(_Block, "_put", recorded)
    for away in (False, True):
        row = Row().requires_grad_(False)
        tune_lora(row, r"layers\.\d\.(1|3)", rank=2)
        generator = torch.Generator().manual_seed(5)
        for parameter in trainable_parameters(row).values():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        quantize(row, kind, torch.float32, CPU, away)
        if away:
            OffloadedBlocks(row, CPU)
            for layer in row.layers:
                layer.register_forward_hook(count)
        row.to(CPU)
        for _ in range(2):
            for parameter in trainable_parameters(row).values():
                parameter.grad = None
            y = row(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)))
            y.square().mean().backward()
            found.append((y.detach(), [parameter.grad for parameter in trainable_parameters(row).values()]))
    (y, gradients), _, *others = found
    assert len(gradients) == 24 and all(gradient.abs().sum() > 0 for gradient in gradients)
    for other, theirs in others:
        torch.testing.assert_close(y, other, rtol=1e-5, atol=1e-5)
        for gradient, one in zip(gradients, theirs, strict=True):
            torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-6)
    assert 1 <= most <= 2


@pytest.mark.parametrize("kind", ["nf4", "int8wo"])
def test_a_run_in_fewer_bits_on_the_cpu_is_one_that_stays(bases, tmp_path, kind):  # noqa: F811
    row = next(row for row in FAMILIES if row.name == "flux-dev")
    write_winners(tmp_path / "winners", row)
    config = config_of(base_of(bases, row), tmp_path, row, "lora")
    commands.prepare(config)
    for name, offload in (("stays", False), ("away", True)):
        model = replace(config.model, quantize=kind, offload=offload)
        loop = replace(config.loop, gradient_checkpointing=True)
        one = replace(config, run=str(tmp_path / name), model=model, loop=loop)
        commands.train(one)
        commands.sample(one, SampleRequest(prompts=("a red wall",), steps=2, out=str(tmp_path / f"{name}-drawn")))
    lines, others = (read_metrics(tmp_path / name) for name in ("away", "stays"))
    for a, b in zip(lines, others, strict=True):
        for key in ("loss", "winner_error", "grad_norm"):
            assert a[key] == pytest.approx(b[key], rel=1e-4), (a["update"], key)
    pixels = [np.asarray(Image.open(next((tmp_path / f"{n}-drawn").glob("*.png")))) for n in ("away", "stays")]
    assert np.abs(pixels[0].astype(int) - pixels[1]).max() <= 2


def test_text_encoders_but_for_their_widest_part(tmp_path):
    from seppo_core.io.lazy import import_object
    from tests.contract.families.flux import ROWS

    row = ROWS[0]
    adapters = [import_object(row.model.spec.adapter).configured(row.pipeline(tmp_path), row.model) for _ in range(2)]
    quantize_texts(adapters[0], replace(row.model, quantize_text="int8wo"), CPU)
    t5, clip = adapters[0].pipeline.text_encoder_2, adapters[0].pipeline.text_encoder
    # transformers multiplies with wo in its own dtype
    assert {name.rpartition(".")[2] for name, m in layers(t5) if type(m.weight) is not nn.Parameter} == {
        "q", "k", "v", "o", "wi",
    }  # fmt: skip
    assert all(type(m.weight) is nn.Parameter for _, m in layers(clip))
    ours, plain = (adapter.encode_prompts(["a red wall"]) for adapter in adapters)
    assert torch.equal(ours["pooled"], plain["pooled"])
    assert 0 < apart(ours["text"], plain["text"]) < 0.05


def test_a_cache_says_that_its_captions_are_of_fewer_bits(workshop, tmp_path):
    config = workshop.config(tmp_path / "run", "lora")
    assert "model.quantize_text" not in Manifest.read(WinnerCache(workshop.cache).folder).settings
    assert replace(config.model, quantize_text="nf4").encoding()["model.quantize_text"] == "nf4"

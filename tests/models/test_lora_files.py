"""LoRAs to start from: each layer at its own strength, and none that puts nothing on."""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from seppo_core.config.lora import check_lora_file
from seppo_core.config.schema import TuneConfig
from seppo_core.export.model_card import _strength
from seppo_core.export.weights import write_lora
from seppo_core.models.lora_files import _with_alphas_in
from seppo_core.models.tuning import POLICY, trainable_state
from seppo_core.training.setup import tune
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture(scope="module")
def adapter_of(tmp_path_factory):
    """A fresh adapter on the same weights each time."""
    pipeline = tiny.stable_diffusion(tmp_path_factory.mktemp("words"))
    weights = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}

    def fresh() -> StableDiffusion:
        pipeline.unet = type(pipeline.unet).from_config(pipeline.unet.config)
        pipeline.unet.load_state_dict(weights)
        return StableDiffusion.configured(pipeline, StableDiffusionModel(base="base"))

    return fresh


def config(lora, mode: str = "full", rank: int = 4, alpha: float | None = None) -> ImageConfig:
    model = StableDiffusionModel(base="base", lora=str(lora))
    tuned = TuneConfig(mode=mode, rank=rank, alpha=alpha)
    return ImageConfig(run="r", model=model, data=ImageData(source="s", cache="c"), tune=tuned)


def factors(unet, rank_of) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, module in unet.named_modules():
        if name.endswith(PROJECTIONS):
            rank, (rows, columns) = rank_of(len(found)), module.weight.shape
            draws = (torch.randn(shape, generator=generator) for shape in ((rank, columns), (rows, rank)))
            found[name] = tuple(draws)
    return found


# kohya's layers without an alpha act at 1, which is alpha = rank
@pytest.mark.parametrize(
    ("ranks", "alphas"), [((4, 4), (1, 1)), ((4, 4), (2, 4)), ((2, 8), (4, 4)), ((2, 8), (3, None)), ((2, 8), None)]
)
def test_merged_weights_are_those_of_the_formula_worked_in_float64(adapter_of, tmp_path, ranks, alphas):
    adapter = adapter_of()
    before = {name: tensor.double() for name, tensor in adapter.denoiser.state_dict().items()}
    layers = factors(adapter.denoiser, lambda place: ranks[place % 2])
    tensors, expected = {}, dict(before)
    for place, (name, (a, b)) in enumerate(layers.items()):
        rank = alpha = ranks[place % 2]
        if alphas is None:
            tensors |= {f"unet.{name}.lora_A.weight": a, f"unet.{name}.lora_B.weight": b}
        else:
            key = f"lora_unet_{name.replace('.', '_')}"
            tensors |= {f"{key}.lora_down.weight": a, f"{key}.lora_up.weight": b}
            if alphas[place % 2] is not None:
                alpha = alphas[place % 2]
                tensors[f"{key}.alpha"] = torch.tensor(float(alpha))
        expected[f"{name}.weight"] = before[f"{name}.weight"] + alpha / rank * (b.double() @ a.double())
    file = tmp_path / "lora.safetensors"
    save_file(tensors, file)
    tune(adapter, config(file))
    for name, tensor in adapter.denoiser.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_alphas_put_into_half_precision_factors_round_nothing(tmp_path):
    """A 128th of small numbers is below what float16 holds whole."""
    up = torch.linspace(1e-4, 1e-3, 12).half().view(3, 4)
    factors = {"to_q.lora_A.weight": torch.ones(4, 2).half(), "to_q.lora_B.weight": up}
    save_file(factors | {"to_q.alpha": torch.tensor(1 / 32)}, tmp_path / "lora.safetensors")
    pipeline = SimpleNamespace(lora_state_dict=lambda source: None)
    found = _with_alphas_in(pipeline, "transformer", str(tmp_path / "lora.safetensors"))
    assert torch.equal(found["to_q.lora_B.weight"], up.float() / 128) and "to_q.alpha" not in found


def test_alphas_that_differ_by_layer_outlive_an_export(adapter_of, tmp_path):
    adapter = adapter_of()
    layers = factors(adapter.denoiser, lambda place: 4)
    tensors = {}
    for place, (name, (a, b)) in enumerate(layers.items()):
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": a, f"{key}.lora_up.weight": b, f"{key}.alpha": torch.tensor(2.0 + place)}
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"alphas that differ by layer; leave tune.alpha null"):
        tune(adapter, config(tmp_path / "lora.safetensors", "lora", alpha=4))
    adapter = adapter_of()
    tune(adapter, config(tmp_path / "lora.safetensors", "lora"))
    write_lora(adapter, tmp_path / "exported")
    assert "differs by layer" in _strength(adapter.denoiser.peft_config[POLICY])
    plain = adapter_of()
    plain.pipeline.load_lora_weights(tmp_path / "exported")
    found = [m.scaling["default_0"] for n, m in plain.denoiser.named_modules() if n in layers]
    assert found == [(2 + place) / 4 for place in range(len(layers))]


def kohya(name: str, a: Tensor, b: Tensor, alpha: float) -> dict[str, Tensor]:
    key = f"lora_unet_{name.replace('.', '_')}"
    return {f"{key}.lora_down.weight": a, f"{key}.lora_up.weight": b, f"{key}.alpha": torch.tensor(alpha)}


FILES = {
    "plain": lambda place, name, a, b: {f"unet.{name}.lora_A.weight": a, f"unet.{name}.lora_B.weight": b},
    "one alpha": lambda place, name, a, b: kohya(name, a, b, 2.0),
    "several alphas": lambda place, name, a, b: kohya(name, a, b, 2.0 + place % 2),
}


def refusal(check, *arguments) -> str | None:
    try:
        check(*arguments)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("case", [*FILES, "exported"])
def test_before_the_base_is_loaded_the_file_tells_what_stands_on_it_after(adapter_of, tmp_path, case):
    adapter = adapter_of()
    place = tmp_path / "lora.safetensors"
    if case == "exported":
        tune(adapter, replace(config("", "lora", alpha=6), model=StableDiffusionModel(base="base")))
        write_lora(adapter, place := tmp_path / "exported")
    else:
        layers = enumerate(factors(adapter.denoiser, lambda place: 4).items())
        save_file({k: t for i, (name, ab) in layers for k, t in FILES[case](i, name, *ab).items()}, place)
    told = {}
    for rank, alpha in ((5, None), (4, 2), (4, 4), (4, 6)):
        asked = config(place, "lora", rank, alpha)
        told[rank, alpha] = refusal(check_lora_file, asked)
        assert told[rank, alpha] == refusal(tune, adapter_of(), asked)
    fitting = {"plain": [(4, 4)], "one alpha": [(4, 2)], "several alphas": [], "exported": [(4, 6)]}[case]
    assert [key for key, text in told.items() if text is None] == fitting
    assert told[5, None] == f"tune.rank=5, but the LoRA {place} that is continued has rank 4; set tune.rank=4"
    # all weights are trained on whatever was merged
    assert refusal(check_lora_file, config(place, "full", 5)) is None


def test_what_is_told_after_the_base_is_loaded_is_left_to_that(adapter_of, tmp_path):
    file = tmp_path / "lora.safetensors"
    layers = factors(adapter_of().denoiser, lambda place: (2, 8)[place % 2])
    save_file({k: t for i, (n, ab) in enumerate(layers.items()) for k, t in FILES["plain"](i, n, *ab).items()}, file)
    assert refusal(check_lora_file, config(file, "lora", 5)) is None
    file.write_bytes(file.read_bytes()[:-1])
    assert refusal(check_lora_file, config(file, "lora", 5)) is None
    assert refusal(check_lora_file, config("someone/lora", "lora", 5)) is None


def test_the_rank_is_told_without_torch_and_without_a_base(tmp_path):
    """Offline, with a base that is nowhere: what is refused came before it was looked for."""
    file = tmp_path / "lora.safetensors"
    save_file(FILES["plain"](0, "mid_block.to_q", torch.ones(4, 3), torch.ones(3, 4)), file)
    (tmp_path / "run.yaml").write_text(
        f"run: {tmp_path}/run\nmodel: {{family: stable-diffusion, base: nobody/nothing, lora: {file}}}\n"
        f"data: {{source: s, cache: {tmp_path}}}\nmethod: {{name: sft}}\ntune: {{mode: lora, rank: 5}}\n"
    )
    code = (
        "import sys; from seppo_image.__main__ import main\n"
        "code = main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "train", str(tmp_path / "run.yaml")]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=offline)
    assert done.returncode == 2 and "has rank 4; set tune.rank=4" in done.stderr, done.stderr


OTHER = {
    "another prefix": (lambda key: key.replace("unet.", "transformer."), "N of its N tensors"),
    "other names": (lambda key: key.replace("attn1", "attn7"), "HALF of its N tensors"),
    "half of them": (lambda key: key.replace("up_blocks", "upper_blocks"), "belong to no layer"),
    "no LoRA": (lambda key: key.replace("lora_A", "hada_w1_a").replace("lora_B", "hada_w1_b"), "N of its N tensors"),
    "alphas beside": (lambda key: key.replace("lora_A.weight", "alpha"), "HALF of its N tensors"),
    "text encoder": (lambda key: "text_encoder." + key, "changes nothing of the unet: all its N tensors are a text"),
}


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("case", OTHER)
def test_a_lora_that_puts_no_layer_on_is_refused(adapter_of, tmp_path, case, mode):
    rename, told = OTHER[case]
    adapter = adapter_of()
    layers = factors(adapter.denoiser, lambda place: 4)
    tensors = {f"unet.{n}.lora_{x}.weight": t for n, ab in layers.items() for x, t in zip("AB", ab, strict=True)}
    renamed = {rename(key): tensor for key, tensor in tensors.items()}
    save_file(renamed, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError) as refused:
        tune(adapter, config(tmp_path / "lora.safetensors", mode))
    text = str(refused.value)
    assert told.replace("HALF", str(len(renamed) // 2)).replace("N", str(len(renamed))) in text
    assert sum(repr(key) in text for key in renamed) == 3 and "give a LoRA" in text


def test_other_sizes_damage_doras_and_numbers_that_are_none_are_named(adapter_of, tmp_path):
    adapter, file = adapter_of(), tmp_path / "lora.safetensors"
    name, (a, b) = next(iter(factors(adapter.denoiser, lambda place: 2).items()))
    good = {f"unet.{name}.lora_A.weight": a, f"unet.{name}.lora_B.weight": b}
    key = f"unet.{name}.lora_A.weight"
    kohya = f"lora_unet_{name.replace('.', '_')}"
    dora = {f"{kohya}.lora_down.weight": a, f"{kohya}.lora_up.weight": b, f"{kohya}.dora_scale": torch.ones(3)}
    for tensors, told in (
        (good | {key: torch.ones(2, a.shape[1] + 1)}, "1 of its 2 tensors .* have another size"),
        (good | {key: torch.full_like(a, torch.nan)}, "not finite"),
        (dora, "is a DoRA, whose 1 scales"),
    ):
        save_file(tensors, file)
        with pytest.raises(ValueError, match=told):
            adapter.load_lora(str(file), POLICY)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match="cannot be read"):
        adapter.load_lora(str(file), POLICY)
    save_file(good, file)
    tune(adapter, config(file, "lora", rank=2))
    assert torch.equal(trainable_state(adapter.denoiser)[f"{name}.lora_A.weight"], a)


def test_the_card_names_the_strength_for_programs_that_read_tensors_alone():
    lora = SimpleNamespace(r=2, lora_alpha=4, alpha_pattern={}, rank_pattern={})
    assert "is 4 / 2" in _strength(lora) and "strength to 2 there" in _strength(lora)
    lora.lora_alpha = 2
    assert _strength(lora) is None

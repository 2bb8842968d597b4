"""PixArt-Σ beyond the contract: what is refused, how published folders name it, LoRA files in peft's own layout."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel
from safetensors.torch import load_file, save

from seppo_core.config.schema import TuneConfig
from seppo_core.export.weights import write_lora
from seppo_core.models.tuning import POLICY, load_trainable_state, trainable_state, tune_lora
from seppo_core.training import setup
from seppo_image import commands
from seppo_image.config import ImageConfig, ImageData
from seppo_image.families.pixart import PixArtSigmaModel
from seppo_image.pixart import PixArtSigma
from tests import tiny
from tests.contract.families import pixart

PROMPTS = ["a red house", "two cats"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pixart")
    pixart.pipeline(folder / "words").save_pretrained(folder / "base")
    return folder / "base"


def changed(pipeline: PixArtSigmaPipeline, **changes) -> PixArtTransformer2DModel:
    """A transformer of the pipeline's config with `changes`."""
    config = {name: value for name, value in pipeline.transformer.config.items() if not name.startswith("_")}
    return PixArtTransformer2DModel(**config | changes)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_pixart_alpha_is_refused(tmp_path):
    """It is a pipeline of other micro-conditions around the same class of transformer."""
    pipeline = pixart.pipeline(tmp_path)
    pipeline.register_modules(transformer=changed(pipeline, use_additional_conditions=True))
    with pytest.raises(ValueError, match="PixArt-α"):
        PixArtSigma(pipeline)


def test_pixart_without_a_variance_is_taken(tmp_path):
    pipeline = pixart.pipeline(tmp_path)
    pipeline.register_modules(transformer=changed(pipeline, out_channels=4))
    adapter = PixArtSigma(pipeline, tiny.T5_TOKENS)
    x_t = normal(2, 4, 8, 12)
    condition = adapter.encode_prompts(PROMPTS)
    assert adapter.predict(adapter.denoiser, x_t, torch.tensor([1, 2]), condition).shape == x_t.shape


def test_pixart_loads_by_the_name_that_its_transformer_was_published_under(base, tmp_path):
    """The hub's folders say Transformer2DModel, which diffusers turned into a class of its own later."""
    shutil.copytree(base, tmp_path / "old")
    for file in ("model_index.json", "transformer/config.json"):
        path = tmp_path / "old" / file
        path.write_text(path.read_text().replace("PixArtTransformer2DModel", "Transformer2DModel"))
    adapter = PixArtSigma.load(PixArtSigmaModel(base=str(tmp_path / "old")), torch.float32)
    assert isinstance(adapter.denoiser, PixArtTransformer2DModel)


def test_a_lora_of_pixart_is_continued_and_a_wrong_one_refused(base, tmp_path):
    adapter = PixArtSigma.load(PixArtSigmaModel(base=str(base)), torch.float32)
    tune_lora(adapter.denoiser, adapter.lora_targets["all"], rank=2, alpha=4)
    state = {name: tensor + 0.1 for name, tensor in trainable_state(adapter.denoiser).items()}
    load_trainable_state(adapter.denoiser, state)
    write_lora(adapter, tmp_path / "lora")
    model = PixArtSigmaModel(base=str(base), lora=str(tmp_path / "lora"))
    tune = TuneConfig(mode="lora", rank=2)
    config = ImageConfig(run="r", model=model, data=ImageData(source="s", cache="c"), tune=tune)
    again = commands.load(config)
    setup.tune(again, config)
    found = trainable_state(again.denoiser)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert again.denoiser.peft_config[POLICY].lora_alpha == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no adapter_model.safetensors"):
        again.load_lora(str(tmp_path / "empty"), "other")
    weights = tmp_path / "lora" / "adapter_model.safetensors"
    weights.write_bytes(save({name: tensor for name, tensor in load_file(weights).items() if "blocks.0" in name}))
    with pytest.raises(ValueError, match=r"lacks [0-9]+ tensors of the layers that it names .*blocks.1"):
        commands.load(config).load_lora(str(tmp_path / "lora"), POLICY)

"""In what precision and how `prepare` encodes, and that samples that training encodes again are encoded alike."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL

from seppo_core.cache.reader import WinnerCache
from seppo_core.models.fingerprint import frozen_fingerprint
from seppo_core.run.history import read_metrics
from seppo_image import commands
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny


def test_full_tuning_is_prepared_in_the_model_s_precision(workshop, tmp_path):
    """It trains in float32, and encodes no winner that slowly."""
    config = workshop.config(tmp_path / "run", "full")
    config = replace(
        config,
        model=replace(config.model, dtype="bfloat16"),
        data=replace(config.data, cache=str(tmp_path / "cache")),
    )
    commands.prepare(config)
    texts = WinnerCache(tmp_path / "cache").unconditional()
    exact = WinnerCache(workshop.cache).unconditional()
    for name, text in texts.items():
        # stored in float32, with the digits that bfloat16 has
        assert text.dtype == torch.float32 and torch.equal(text, text.bfloat16().float())
        assert not torch.equal(text, exact[name])
        torch.testing.assert_close(text, exact[name], rtol=0.1, atol=0.1)
    commands.train(config)
    assert len(read_metrics(tmp_path / "run")) == 6
    assert {parameter.dtype for parameter in commands.load(config).denoiser.parameters()} == {torch.float32}


def test_the_denoiser_takes_no_memory_while_winners_are_encoded(workshop, tmp_path, monkeypatch):
    config = workshop.config(tmp_path / "run")
    config = replace(config, data=replace(config.data, cache=str(tmp_path / "cache")))
    devices, whole = set(), AutoencoderKL.encode
    loaded = []

    load_one = commands.load

    def load(*given):
        loaded.append(load_one(*given))
        return loaded[-1]

    def encode(vae, pixels):
        devices.add(loaded[0].denoiser.device.type)
        return whole(vae, pixels)

    monkeypatch.setattr(commands, "load", load)
    monkeypatch.setattr(AutoencoderKL, "encode", encode)
    commands.prepare(config)
    assert devices == {"meta"}


def test_weights_too_small_for_float16_name_the_same_model(tmp_path):
    exact, half = tiny.stable_diffusion(tmp_path), tiny.stable_diffusion(tmp_path)
    for pipeline in (exact, half):
        for parameter in pipeline.text_encoder.parameters():
            parameter.data[..., 0] = 1e-9
    half.text_encoder.half()
    adapters = [StableDiffusion(pipeline) for pipeline in (exact, half)]
    # without files here, by which it is told otherwise
    model = StableDiffusionModel(base="nowhere")
    assert frozen_fingerprint(adapters[0], model) == frozen_fingerprint(adapters[1], model)


@pytest.mark.parametrize("tiled", [True, False])
def test_samples_are_encoded_again_as_the_winners_were(workshop, tmp_path, monkeypatch, tiled):
    config = workshop.config(tmp_path / "run", "lora")
    config = replace(
        config,
        data=replace(config.data, cache=str(tmp_path / "cache"), vae_tiling=tiled),
        reference_samples=replace(config.reference_samples, reencode=True),
    )
    tiles, whole = [], AutoencoderKL.encode
    monkeypatch.setattr(
        AutoencoderKL, "encode", lambda vae, x: tiles.extend([vae.use_tiling] * len(x)) or whole(vae, x)
    )
    commands.prepare(config)
    # each winner and its mirror image
    assert tiles == [tiled] * 20
    tiles.clear()
    # whatever the config has come to say, the cache is what the samples stand beside
    commands.train(replace(config, data=replace(config.data, vae_tiling=not tiled)))
    assert tiles == [tiled] * 24

"""Clips that do not fit the device: frames one by one, the CPU, tiles; real autoencoders, the shortage planted.

What stands for the device here is half precision: the CPU is tried in float32.
"""

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from seppo_core.cache.encode_items import ItemEncoder
from seppo_core.data.source import Item, View
from seppo_core.models.adapter import CropInfo
from seppo_core.models.vae import slice_vae, tile_vae
from seppo_video.animatediff import AnimateDiff
from seppo_video.cogvideox import CogVideoX
from seppo_video.hunyuan import HunyuanVideo
from seppo_video.ltx import LTX
from seppo_video.wan import Wan
from tests import tiny
from tests.cache.winners import ListSource
from tests.contract.families import cogvideox, hunyuan, ltx, wan

CAUSAL = {
    "wan": (Wan, wan.pipeline, 5),
    "ltx": (LTX, ltx.pipeline, 9),
    "cogvideox": (CogVideoX, cogvideox.pipeline, 9),
    "hunyuan": (HunyuanVideo, hunyuan.pipeline, 5),
}


def clips(frames: int, count: int = 3) -> list[Item]:
    generator, crop = torch.Generator().manual_seed(0), CropInfo(64, 96, 0, 0, 64, 96)
    pixels = torch.randint(0, 256, (count, 3, frames, 64, 96), generator=generator).byte()
    return [Item(f"{number}", f"{number}.mp4", "a", {"winner": View(clip, crop)}) for number, clip in enumerate(pixels)]


def encoded(adapter, frames: int) -> dict[str, torch.Tensor]:
    shape = adapter.latent_shape(64, 96, frames)
    encoder = ItemEncoder(
        adapter,
        ListSource(["a"], frames=frames),
        shape=shape,
        batch_size=2,
        dtype=torch.float32,
        flip=False,
        workers=1,
    )
    return encoder.shard(clips(frames), lambda _: None).tensors


def short_of_memory(adapter, monkeypatch, fits) -> list[tuple[torch.dtype, tuple[int, ...]]]:
    """Lets the autoencoder's own work fail unless `fits(dtype, shape)`; lists the tries."""
    vae, tries = adapter.pipeline.vae, []
    whole = vae._encode

    def encode(x, *more):
        tries.append((vae.dtype, tuple(x.shape)))
        if not fits(vae.dtype, tuple(x.shape)):
            raise torch.OutOfMemoryError("planted")
        return whole(x, *more)

    monkeypatch.setattr(vae, "_encode", encode)
    return tries


@pytest.mark.parametrize("family", CAUSAL)
def test_a_clip_that_does_not_fit_is_encoded_on_the_cpu(tmp_path, monkeypatch, capsys, family):
    kind, build, frames = CAUSAL[family]
    adapter = kind(build(tmp_path))
    vae = nn.Module.to(adapter.pipeline.vae, torch.bfloat16)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    independent = kind(build(tmp_path))
    nn.Module.to(independent.pipeline.vae, torch.bfloat16).float()
    expected = encoded(independent, frames)
    tries = short_of_memory(adapter, monkeypatch, lambda dtype, _: dtype == torch.float32)
    found = encoded(adapter, frames)
    for name in ("winner.mean", "winner.logvar"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    # each is tried on the device first; of a batch of two the first, which comes before the other
    assert [dtype for dtype, _ in tries] == [torch.bfloat16, *[torch.bfloat16, torch.float32] * 3]
    assert not vae.use_slicing and vae.dtype == torch.bfloat16
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    told = capsys.readouterr().out
    assert told.count("encoded on the CPU") == 1 and "one by one" not in told


def test_where_nothing_fits_it_ends_with_the_cure(tmp_path, monkeypatch):
    adapter = Wan(wan.pipeline(tmp_path))
    short_of_memory(adapter, monkeypatch, lambda *_: False)
    with pytest.raises(ValueError, match=r"one item of \(3, 5, 64, 96\) does not fit the memory; .*vae_tiling"):
        encoded(adapter, 5)


def test_frames_that_are_pictures_are_encoded_one_by_one(tmp_path, monkeypatch, capsys):
    adapter = AnimateDiff(tiny.animatediff(tmp_path))
    assert isinstance(adapter.pipeline.vae, AutoencoderKL)
    expected = encoded(adapter, 4)
    tries = short_of_memory(adapter, monkeypatch, lambda _, shape: shape[0] == 1)
    found = encoded(adapter, 4)
    for name in ("winner.mean", "winner.logvar"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert [shape[0] for _, shape in tries] == [8, 4, *[1] * 12]
    assert "one by one" in capsys.readouterr().out and not slice_vae(adapter.pipeline.vae)


@pytest.mark.parametrize("family", CAUSAL)
def test_decoding_leaves_the_encoder_s_tiles_as_they_were(tmp_path, family):
    """Training with data.vae_tiling and reference_samples.reencode decodes and encodes in turn."""
    kind, build, frames = CAUSAL[family]
    adapter = kind(build(tmp_path))
    latents = torch.zeros(1, *adapter.latent_shape(64, 96, frames))
    adapter.decode(latents)
    assert not adapter.pipeline.vae.use_tiling
    tile_vae(adapter.pipeline.vae)
    adapter.decode(latents)
    assert adapter.pipeline.vae.use_tiling

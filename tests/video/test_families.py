"""Beyond the contract: loading, what each is told that others are not, and whole runs on them."""

from functools import partial

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
)

from seppo_core.config.method import ReferenceSamplesConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.schema import TuneConfig
from seppo_core.models.checks import check_frames
from seppo_core.models.noise_path import DiffusionNoisePath
from seppo_core.models.sampling import make_scheduler
from seppo_video.cogvideox import CogVideoX, rotary_embedding
from seppo_video.config import VideoConfig, VideoData, VideoModel
from seppo_video.hunyuan import HunyuanVideo
from seppo_video.wan import Wan
from tests.contract.families import cogvideox, hunyuan, wan
from tests.tiny import T5_TOKENS

PROMPTS = ["a red house", "two cats"]
CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_wan_2_2_is_refused(tmp_path):
    two = wan.pipeline(tmp_path)
    two.register_to_config(boundary_ratio=0.9)
    with pytest.raises(ValueError, match="two transformers"):
        Wan(two)
    per_token = wan.pipeline(tmp_path)
    per_token.register_to_config(expand_timesteps=True)
    with pytest.raises(ValueError, match="timestep for every token"):
        Wan(per_token)


@pytest.mark.parametrize("unipc", [True, False])
def test_wan_s_flow_shift(tmp_path, unipc):
    """σ' = s σ / (1 + (s − 1) σ), whatever the solver calls s, and in the exported pipeline too."""
    grids = {}
    for shift in (1.0, 5.0):
        adapter = Wan(wan.pipeline(tmp_path, unipc), flow_shift=shift)
        adapter.timesteps(adapter.scheduler, 10, (4, 2, 4, 6), "cpu")
        grids[shift] = adapter.scheduler.sigmas.double()
        assert adapter.pipeline.scheduler is adapter.scheduler
        exported = adapter.export_pipeline().scheduler.config
        assert exported["flow_shift" if unipc else "shift"] == shift
    plain = grids[1.0]
    # FlowMatch shifts its grid's lower end first and then again, as the pipeline has it
    inner = slice(0, 1) if not unipc else slice(None)
    torch.testing.assert_close(grids[5.0][inner], (5 * plain / (1 + 4 * plain))[inner], rtol=1e-4, atol=1e-5)
    assert (grids[5.0][1:-1] > plain[1:-1]).all()


def test_wan_cleans_captions_as_the_pipeline_does(tmp_path):
    adapter, plain = Wan(wan.pipeline(tmp_path), text_tokens=T5_TOKENS), wan.pipeline(tmp_path)
    messy = ["  a  red \n house ", "a &amp;lt; b"]
    expected, _ = plain.encode_prompt(messy, max_sequence_length=T5_TOKENS)
    found = adapter.encode_prompts(messy)["text"]
    torch.testing.assert_close(found, expected)
    assert (found[0, -1] == 0).all()
    assert adapter.truncated(["a" + 40 * " ", 30 * "a"]) == [1]


def test_hunyuan_guidance_of_training_and_of_sampling(tmp_path):
    adapter = HunyuanVideo(hunyuan.pipeline(tmp_path), text_tokens=T5_TOKENS, training_guidance=2.0)
    condition = adapter.encode_prompts(PROMPTS)
    call = partial(adapter.predict, adapter.denoiser, normal(2, 4, 2, 4, 6), torch.tensor([100.0, 900.0]))
    with torch.no_grad():
        training = call(condition)
        assert torch.equal(training, call(adapter.with_guidance(condition, 2.0)))
        assert (training - call(adapter.with_guidance(condition, 6.0))).abs().max() > 1e-2


def test_cogvideox_on_its_dpm_scheduler_samples_with_ddim(tmp_path):
    pipeline = cogvideox.pipeline(tmp_path)
    ddim = pipeline.scheduler
    pipeline.scheduler = CogVideoXDPMScheduler.from_config(ddim.config)
    adapter = CogVideoX(pipeline)
    assert isinstance(adapter.scheduler, CogVideoXDDIMScheduler)
    assert adapter.scheduler.config.timestep_spacing == "trailing"
    assert torch.equal(adapter.path.alphas_cumprod, ddim.alphas_cumprod)


def test_cogvideox_s_shifted_signal_reaches_other_solvers(tmp_path):
    """Only its own schedulers know `snr_shift_scale`; another is handed the betas that it amounts to."""
    base = cogvideox.pipeline(tmp_path, rotary=False).scheduler
    assert base.config.snr_shift_scale == 3.0
    for name in ("ddim", "dpm++", "euler", "unipc"):
        alphas = make_scheduler(name, base).alphas_cumprod.double()
        torch.testing.assert_close(alphas[:-1], base.alphas_cumprod[:-1], rtol=1e-3, atol=1e-6)
        assert alphas[-1] < 1e-6
    ignorant = DDIMScheduler.from_config(base.config)
    assert (ignorant.alphas_cumprod - base.alphas_cumprod).abs().max() > 0.1
    path = DiffusionNoisePath.from_scheduler(base)
    assert path.alphas_cumprod.dtype == torch.float64
    assert path.coefficients(torch.tensor([999]))[0].item() == 0


def test_cogvideox_rotary_of_another_size_than_it_was_trained_on(tmp_path):
    for build in (cogvideox.pipeline, partial(cogvideox.pipeline, packed_frames=2)):
        pipeline = build(tmp_path)
        for frames, height, width in [(2, 4, 6), (4, 8, 10)]:
            expected = pipeline._prepare_rotary_positional_embeddings(
                8 * height, 8 * width, frames, torch.device("cpu")
            )
            found = rotary_embedding(pipeline.transformer.config, (frames, height, width), CPU)
            for ours, theirs in zip(found, expected, strict=True):
                assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("frames", "nearest"), [(0, 1), (2, 1), (3, 5), (16, 17), (82, 81)])
def test_the_nearest_number_of_frames(frames, nearest):
    with pytest.raises(ValueError, match=rf"^{frames} frames do not fit .* use 4k \+ 1, e\.g\. {nearest}$"):
        check_frames(frames, 4)
    check_frames(nearest, 4)


def test_large_clips_are_decoded_in_tiles_and_encoded_whole(tmp_path, monkeypatch):
    adapter = Wan(wan.pipeline(tmp_path))
    vae, tiled = adapter.pipeline.vae, []
    for name in ("tiled_encode", "tiled_decode"):
        right = getattr(vae, name)
        monkeypatch.setattr(
            vae, name, lambda *args, name=name, right=right, **named: tiled.append(name) or right(*args, **named)
        )
    latents = adapter.encode(normal(1, 3, 1, 272, 32).clamp(-1, 1)).mean
    assert tiled == []
    adapter.decode(latents)
    assert tiled == ["tiled_decode"]
    assert not vae.use_tiling


@pytest.mark.parametrize(
    ("family", "keys", "changes", "message"),
    [
        ("wan", {"text_tokens": 513}, {}, "text_tokens=513 .* 1 to 512"),
        ("wan", {"flow_shift": 0.0}, {}, r"flow_shift=0\.0 .* greater than 0"),
        ("hunyuan", {"training_guidance": -1.0}, {}, r"training_guidance=-1\.0 .* at least 0"),
        ("ltx", {"fps": 0}, {}, "fps=0 .* greater than 0"),
        ("wan", {}, {"tune": TuneConfig(scope="motion")}, "scope=motion .* all for wan"),
        ("cogvideox", {}, {"method": SeppoConfig(timestep_shift=3.0)}, r"timestep_shift=3\.0 .* cogvideox"),
        ("wan", {}, {"method": SeppoConfig(min_snr_gamma=5)}, "min_snr_gamma=5 .* wan"),
        ("ltx", {}, {"reference_samples": ReferenceSamplesConfig(scheduler="ddim")}, "scheduler=ddim .* ltx"),
    ],
)
def test_what_a_family_has_not_is_refused(family, keys, changes, message):
    with pytest.raises(ValueError, match=message):
        config(family, keys, **changes)


def config(family: str, keys: dict, **changes) -> VideoConfig:
    model = VideoModel.variants()[family](base="b", **keys)
    return VideoConfig(run="r", model=model, data=VideoData(source="s", cache="c"), **changes)


def test_playback_and_kinds_of_export_are_the_family_s():
    assert config("wan", {}).model.fps == 16
    assert config("cogvideox", {"fps": 16}).model.fps == 16
    assert config("wan", {}).export_kinds == ("lora", "full")
    assert config("animatediff", {}).export_kinds == ("lora", "full", "motion")

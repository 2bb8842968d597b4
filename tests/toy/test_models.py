"""The toy bases as diffusers pipelines: tokens, taking a video base apart, and folders that load."""

import pytest
import torch
from diffusers import AnimateDiffPipeline, MotionAdapter, StableDiffusionPipeline, UNetMotionModel

from benchmarks.evaluation import tiny_models as models
from benchmarks.experiments.toy.task.base_model import Base
from benchmarks.experiments.toy.task.bases import CHANNELS as SHIPPED
from seppo_core.toy import captions

CHANNELS = (16, 16)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def motion_unet():
    """A motion UNet whose zero-initialised weights are shaken, so that nothing passes on zeros."""
    whole = models.motion_unet(models.unet(CHANNELS), CHANNELS)
    with torch.no_grad():
        for weight in whole.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return whole.eval()


def call(unet, x, text):
    with torch.no_grad():
        return unet(x, torch.tensor([7, 900]), encoder_hidden_states=text).sample


def test_every_word_is_one_token_and_other_text_is_still_spelt():
    tokenizer = models.tokenizer()
    for modality in ("image", "video"):
        for caption in captions.all_captions(modality):
            ids = tokenizer(caption).input_ids
            assert len(ids) == len(caption.split()) + 2 <= models.MAX_TOKENS
            assert tokenizer.decode(ids, skip_special_tokens=True).strip() == caption
    assert tokenizer.unk_token_id not in tokenizer("a purple ünicorn").input_ids[1:-1]


def test_the_text_encoder_takes_its_special_tokens_from_the_tokenizer():
    tokenizer = models.tokenizer()
    config = models.text_encoder(tokenizer).config
    ids = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    assert ids == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert config.vocab_size == len(tokenizer)


def test_new_motion_modules_change_nothing_at_first():
    picture = models.unet(CHANNELS).eval()
    whole = models.motion_unet(picture, CHANNELS).eval()
    x, text = torch.randn(2, 12, 8, 8, 8), torch.randn(2, 16, models.WIDTH)
    frames = torch.stack([call(picture, x[:, :, f], text) for f in range(8)], dim=2)
    torch.testing.assert_close(call(whole, x, text.repeat_interleave(8, 0)), frames, atol=1e-5, rtol=1e-5)


def test_a_motion_unet_comes_apart_and_together_exactly():
    whole = motion_unet()
    picture, adapter = models.split(whole, CHANNELS)
    joined = UNetMotionModel.from_unet2d(picture, adapter).eval()
    assert all(torch.equal(w, joined.state_dict()[name]) for name, w in whole.state_dict().items())
    x, text = torch.randn(2, 12, 8, 8, 8), torch.randn(16, 16, models.WIDTH)
    assert torch.equal(call(joined, x, text), call(whole, x, text))


def test_a_video_base_on_disk_is_the_trained_model_in_an_animatediff_pipeline(tmp_path):
    base = Base("video", SHIPPED["video"])
    base.channels, base.denoiser = CHANNELS, motion_unet()
    base.encoder.eval()
    base.save(tmp_path)
    adapter = MotionAdapter.from_pretrained(tmp_path / "motion")
    loaded = AnimateDiffPipeline.from_pretrained(tmp_path / "video", motion_adapter=adapter)
    whole = models.video_pipeline(base.denoiser, base.encoder, base.tokenizer, base.vae)
    arguments = {"prompt": captions.held_out("video")[:2], "num_frames": 8, "num_inference_steps": 3}
    clips = []
    for pipeline in (loaded, whole):
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(1)
        clips.append(pipeline(**arguments, guidance_scale=2.0, generator=generator, output_type="pt").frames)
    assert clips[0].shape == (2, 8, 3, 32, 32)
    # the motion is kept in half precision
    torch.testing.assert_close(clips[0], clips[1], atol=5e-3, rtol=0)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_our_sampling_is_the_pipelines(guidance):
    from benchmarks.experiments.toy.task.train_base import sample

    base = Base("image", SHIPPED["image"]).eval()
    with torch.no_grad():
        for weight in base.denoiser.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    prompts = captions.held_out("image")[:3]
    pipeline = models.image_pipeline(base.denoiser, base.encoder, base.tokenizer, base.vae)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn((3, 12, 8, 8), generator=torch.Generator().manual_seed(5))
    images = pipeline(prompts, num_inference_steps=4, guidance_scale=guidance, latents=noise, output_type="pt").images
    ours = sample(base, prompts, 4, guidance, seed=5)
    torch.testing.assert_close(ours.clamp(-1, 1), images * 2 - 1, atol=1e-4, rtol=1e-4)


def test_a_saved_picture_base_loads_in_plain_diffusers(tmp_path):
    base = Base("image", SHIPPED["image"])
    base.save(tmp_path)
    base.save(tmp_path)  # again over the first: swapped in whole, nothing left behind
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "image")
    assert loaded.scheduler.config.prediction_type == "v_prediction"
    assert loaded.scheduler.config.timestep_spacing == "trailing"
    for name, weight in base.denoiser.state_dict().items():
        assert torch.equal(weight, loaded.unet.state_dict()[name])


def test_a_base_goes_on_with_the_ids_it_was_trained_with(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "WORDS", ("red", "circle", "a", "on", "black", "large"))
    base = Base("image", SHIPPED["image"])
    base.save(tmp_path)
    monkeypatch.undo()
    later = Base("image", SHIPPED["image"])
    caption = ["a large red circle on black"]
    assert not torch.equal(later.tokens(caption), base.tokens(caption))
    later.load(tmp_path, "image")
    assert torch.equal(later.tokens(caption), base.tokens(caption))
    assert torch.equal(later.encoder.eval()(later.tokens(caption))[0], base.encoder.eval()(base.tokens(caption))[0])

"""What LTX-Video alone has: a decoder that is told a timestep, tokens of latents, a time grid that ends elsewhere."""

import pytest
import torch
from diffusers import LTXPipeline

from seppo_video.ltx import LTX
from tests.contract.families import ltx
from tests.tiny import T5_TOKENS
from tests.video.test_families import PROMPTS, normal


def test_ltx_decoder_that_is_told_a_timestep(tmp_path):
    adapter, plain = LTX(ltx.pipeline(tmp_path, True)), ltx.pipeline(tmp_path, True)
    latents = normal(2, 8, 2, 2, 3)
    z = latents * plain.vae.latents_std.view(1, -1, 1, 1, 1) / 0.8 + plain.vae.latents_mean.view(1, -1, 1, 1, 1)
    with torch.no_grad():
        expected = plain.vae.decode(z, torch.zeros(2)).sample
        late = plain.vae.decode(z, torch.ones(2)).sample
    torch.testing.assert_close(adapter.decode(latents), expected, rtol=1e-4, atol=1e-5)
    assert (late - expected).abs().max() > 1e-3


def test_ltx_does_not_draw_in_one_step_what_is_to_end_elsewhere(tmp_path):
    adapter = LTX(ltx.pipeline(tmp_path))
    shape = adapter.latent_shape(32, 32, 9)
    with pytest.raises(ValueError, match=r"steps=1 .* shift_terminal=0\.1.*2 steps or more"):
        adapter.timesteps(adapter.scheduler, 1, shape, "cpu")
    two = adapter.timesteps(adapter.scheduler, 2, shape, "cpu")
    assert two.isfinite().all() and two[-1].item() == pytest.approx(100)


def test_ltx_packing_is_the_pipeline_s(tmp_path):
    """Also for tokens of several latents, which no published model has."""
    adapter = LTX(ltx.pipeline(tmp_path), text_tokens=T5_TOKENS)
    adapter.patch = {"pt": 2, "p": 2}
    latents, seen = normal(2, 8, 4, 4, 6), {}

    class Recorder(torch.nn.Linear):
        def forward(self, hidden_states, **call):
            seen.update(call, tokens=hidden_states)
            return (hidden_states,)

    found = adapter.predict(Recorder(1, 1), latents, torch.tensor([1.0, 2.0]), adapter.encode_prompts(PROMPTS))
    assert torch.equal(found, latents)
    assert torch.equal(seen["tokens"], LTXPipeline._pack_latents(latents, 2, 2))
    assert (seen["num_frames"], seen["height"], seen["width"]) == (2, 2, 3)

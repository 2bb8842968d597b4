"""What GPUs that share an item send each other: by hand, and as diffusers' own attention holds it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models import attention_dispatch as attention
from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig
from torch import distributed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from seppo_core.config.loader import load_config
from seppo_core.plan.counter import Counter, GpuKernels
from seppo_core.plan.counts import costs_of
from seppo_core.plan.exchange import HELD, sent
from seppo_core.plan.memory import EXCHANGED, memory
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("degree", [2, 4])
def test_flux_by_hand(degree):
    """4096 tokens of 1024 x 1024 pixels and 256 of the caption, 24 heads of 128, 19 + 38 blocks, two bytes each."""
    config = load_config(str(CONFIGS / "image/flux_dev_lora_seppo.yaml"), ImageConfig)
    split = replace(config, loop=replace(config.loop, context_parallel=degree))
    costs, each = costs_of(config), (4096 + 256) * 24 * 128 * 2 // degree
    phases = memory(split, costs, degree)
    # a winner and its sample; seven tensors going back, six going forth
    assert (config.loop.micro_batch_size, config.model.text_tokens) == (1, 256)
    assert phases["training"][EXCHANGED] == 7 * 2 * each
    assert phases["generation"][EXCHANGED] == 6 * config.reference_samples.batch_size * each
    assert phases["previews"][EXCHANGED] == 6 * config.preview.per_prompt * each
    assert not any(EXCHANGED in phases[name] for name in ("prepare", "optimizer step", "decoding"))
    # forward, recomputed, backward, and the reference's: of four tensors all but the own heads
    passes = 2 * 4 * config.loop.batch_size
    expected = passes * 57 * 4 * each * (degree - 1) / degree
    assert sent(split, costs, degree) == pytest.approx(expected, rel=1e-6)
    # groups share the batch
    assert sent(split, costs, 2 * degree) == pytest.approx(expected / 2, rel=1e-6)
    plain = replace(split, loop=replace(split.loop, gradient_checkpointing=False))
    assert sent(plain, costs, degree) == pytest.approx(expected * 3 / 4, rel=1e-6)


def test_captions_that_stay_whole_are_not_sent():
    config = load_config(str(CONFIGS / "video/wan21_1_3b_lora_seppo.yaml"), VideoConfig)
    costs = costs_of(config)
    _, frames, height, width = costs.latent_shape
    split = replace(config, loop=replace(config.loop, context_parallel=2))
    held = memory(split, costs, 2)["training"][EXCHANGED]
    assert held == 7 * 2 * config.loop.micro_batch_size * (frames * height // 2 * width // 2) * 12 * 128 * 2 // 2


@pytest.fixture
def group():
    """Two processes of which there is one: what is sent is not received, but has its memory."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("ring", "ulysses"))
        found = ContextParallelConfig(ulysses_degree=2, mesh=mesh)
        config = ParallelConfig(context_parallel_config=found)
        config.setup(0, 2, torch.device("cpu"), mesh=mesh)
        yield config
    finally:
        distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*_functional_collectives:FutureWarning")
def test_what_attention_holds_is_what_diffusers_holds(group):
    """In tensors of a query's size: the most that is held at once, over what one GPU alone would hold."""
    shape = (2, 64, 4, 8)
    peaks = {}
    for config in (None, group):
        with FakeTensorMode(), GpuKernels():
            scales = [torch.ones(8, requires_grad=True) for _ in range(3)]
            base = torch.randn(shape)
            with Counter([base, *scales]) as counter:
                for backward in (False, True):
                    with torch.set_grad_enabled(backward):
                        query, key, value = (base + 0 * scale for scale in scales)
                        counter.peak = counter.live
                        out = attention._native_attention(query, key, value, _parallel_config=config)
                        if backward:
                            del query, key, value
                            loss = out.sum()
                            del out
                            counter.peak = counter.live
                            loss.backward()
                        peaks[config is group, backward] = counter.peak / base.nbytes
                        query = key = value = out = loss = None
    for backward, held in HELD.items():
        assert peaks[True, backward] - peaks[False, backward] == pytest.approx(held, abs=0.2)

"""Winners' order and draws: functions of (seed, update, index) and nothing else."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from seppo_core.cache.reader import WinnerCache
from seppo_core.io.rng import keyed_generator, keyed_normal
from seppo_core.training.batches import BatchMaker, WinnerOrder
from seppo_core.training.sample_buffer import SampleBuffer
from seppo_image.stable_diffusion import StableDiffusion
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return StableDiffusion(tiny.stable_diffusion(tmp_path_factory.mktemp("words")))


@pytest.fixture(scope="module")
def maker(adapter, workshop):
    cache = WinnerCache(workshop.cache)
    return BatchMaker(
        cache=cache, order=WinnerOrder(len(cache), 0), noise_path=adapter.path, seed=0, batch_size=4,
        caption_dropout=0.3, flip=True,
    )  # fmt: skip


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 3))
def test_every_winner_once_per_epoch(length, seed, epoch):
    order = WinnerOrder(length, seed)
    positions = range(epoch * length, (epoch + 1) * length)
    assert Counter(order.item(p) for p in positions) == Counter(range(length))


def test_epochs_and_seeds_have_different_orders():
    order = WinnerOrder(50, 0)
    first, second = ([order.item(p) for p in range(e * 50, e * 50 + 50)] for e in (0, 1))
    assert first != second
    assert first != [WinnerOrder(50, 1).item(p) for p in range(50)]


def test_micro_batches_add_up_to_the_batch(maker):
    whole = maker.make(5, range(4), None, CPU)
    parts = [maker.make(5, range(i, i + 1), None, CPU) for i in (3, 1, 0, 2)]
    parts = [parts[2], parts[1], parts[3], parts[0]]
    for name in ("x0", "t", "noise"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    assert torch.equal(whole.condition["text"], torch.cat([part.condition["text"] for part in parts]))


def test_draws_ignore_the_global_generator_and_differ_between_updates(maker):
    torch.manual_seed(0)
    first = maker.make(1, range(4), None, CPU)
    torch.manual_seed(1)
    again = maker.make(1, range(4), None, CPU)
    other = maker.make(2, range(4), None, CPU)
    assert torch.equal(first.x0, again.x0)
    assert torch.equal(first.t, again.t)
    assert not torch.equal(first.noise, other.noise)
    assert len({*first.t.tolist(), *other.t.tolist()}) > 4


def test_noise_is_independent_per_half_or_shared(maker, tmp_path):
    buffer = SampleBuffer(tmp_path, 0, 4, chunk=3)
    samples = torch.arange(4.0).view(4, 1, 1, 1).expand(4, *maker.cache.latent_shape)
    buffer.fill(lambda positions: samples[positions.start : positions.stop], buffer.missing())
    independent = maker.make(0, range(4), buffer, CPU)
    shared = replace(maker, noise="shared").make(0, range(4), buffer, CPU)
    assert not torch.equal(independent.noise, independent.counterpart_noise)
    assert torch.equal(shared.noise, shared.counterpart_noise)
    assert torch.equal(shared.noise, independent.noise)
    # each winner meets the sample of its own position
    assert independent.counterpart[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_caption_dropout_and_flips_happen_at_their_rates(maker):
    draws = [maker._draw(update, index) for update in range(100) for index in range(4)]
    assert sum(draw["dropped"] for draw in draws) / 400 == pytest.approx(0.3, abs=0.08)
    assert sum(draw["flipped"] for draw in draws) / 400 == pytest.approx(0.5, abs=0.08)
    u = torch.stack([draw["u"] for draw in draws])
    assert u.mean().item() == pytest.approx(0.5, abs=0.06)


def test_dropped_caption_is_the_empty_one(maker):
    batch = maker.make(0, range(4), None, CPU)
    dropped = [maker._draw(0, index)["dropped"] for index in range(4)]
    empty = maker.cache.unconditional()["text"][0]
    assert [torch.equal(text, empty) for text in batch.condition["text"]] == dropped


def test_posterior_mode_has_no_noise(maker):
    batch = replace(maker, posterior="mode", flip=False).make(0, range(4), None, CPU)
    items = [maker.order.item(p) for p in range(4)]
    assert torch.equal(batch.x0, maker.cache.posterior(items, [False] * 4).mean)


def test_buffer_generates_each_position_once_in_fixed_chunks(tmp_path):
    buffer = SampleBuffer(tmp_path / "b", 10, 21, chunk=4)
    assert buffer.missing() == [range(10, 14), range(14, 18), range(18, 21)]

    def generate(positions):
        return torch.stack([keyed_normal((2, 3), "x", p) for p in positions])

    buffer.fill(generate, buffer.missing()[1:2])
    assert buffer.missing() == [range(10, 14), range(18, 21)]
    buffer.fill(generate, buffer.missing())
    assert torch.equal(buffer.read([20, 10, 15]), torch.stack([keyed_normal((2, 3), "x", p) for p in (20, 10, 15)]))
    with pytest.raises(ValueError, match=r"position 21 is not in this buffer of 10\.\.20"):
        buffer.read([21])
    buffer.remove()
    assert not (tmp_path / "b").exists()


def test_a_damaged_or_foreign_chunk_is_generated_anew(tmp_path, capsys):
    def buffer(made_by="one"):
        return SampleBuffer(tmp_path, 0, 6, chunk=2, made_by=made_by)

    def generate(positions):
        return torch.stack([keyed_normal((2, 3), "x", p) for p in positions])

    def files():
        return sorted(tmp_path.glob("*.safetensors"))

    buffer().fill(generate, buffer().missing())
    whole = [path.read_bytes() for path in files()]
    # one bit, half of it gone, only zeros
    spoilt = (whole[0][:-1] + bytes([whole[0][-1] ^ 1]), whole[1][: len(whole[1]) // 2], bytes(len(whole[2])))
    for path, content in zip(files(), spoilt, strict=True):
        path.write_bytes(content)
    assert buffer().missing() == [range(2), range(2, 4), range(4, 6)]
    assert capsys.readouterr().out.count("generated anew") == 3 and not files()
    buffer().fill(generate, buffer().missing())
    assert [path.read_bytes() for path in files()] == whole
    assert buffer("another").missing() == [range(2), range(2, 4), range(4, 6)]
    # as earlier versions wrote them, without a hash
    save_file({"latents": generate(range(2))}, tmp_path / "samples-000000000.safetensors")
    assert buffer().missing() == [range(2, 4), range(4, 6)]
    with pytest.raises(FloatingPointError, match="samples 2 to 3 are not finite"):
        buffer().fill(lambda positions: generate(positions) / 0, [range(2, 4)])


def test_keys_are_told_apart():
    def first(*key):
        return torch.rand(1, generator=keyed_generator(*key)).item()

    values = [
        first(0, "a", 1),
        first(0, "a", 2),
        first(1, "a", 1),
        first(0, "b", 1),
        first(0, "a", "1"),
        first(0, "a1"),
    ]
    assert len(set(values)) == len(values)
    assert first(0, "a", 1) == first(0, "a", 1)

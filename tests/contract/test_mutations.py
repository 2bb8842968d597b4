"""The contract can fail: mistakes that an adapter could make, one by one, against the pipeline's latents.

A mistake in `predict` is made in the call that reaches the denoiser, so that the adapter's own code is what is tested.
"""

from collections.abc import Callable

import pytest
import torch

from seppo_core.models.adapter import Adapter
from seppo_core.models.sampling import sample
from tests.contract.mistakes import Mistaken, wrong_sign
from tests.contract.rows import FAMILIES

pytestmark = pytest.mark.slow

BY_NAME = {family.name: family for family in FAMILIES}
PROMPTS = ["a red house", "two cats under a tree, far too long for so few tokens"]
MISTAKES = {f"{row.name} {what}": (row.name, mistake) for row in FAMILIES for what, mistake in row.mistakes.items()}
ADAPTER_MISTAKES = [(row.name, mistake) for row in FAMILIES for mistake in row.adapter_mistakes]


def off_parity(name: str, tmp_path, change_adapter: Callable[[Adapter], None]) -> float:
    """The largest difference between the pipeline's latents and those of a changed adapter."""
    family = BY_NAME[name]
    noise = torch.randn(2, *family.latent_shape, generator=torch.Generator().manual_seed(0))
    plain = family.pipeline(tmp_path / "plain words")
    expected = family.pipeline_latents(plain, PROMPTS, noise, steps=3, guidance_scale=3.0)
    adapter = family.adapter(tmp_path / "words")
    change_adapter(adapter)
    found = sample(
        adapter,
        adapter.denoiser,
        adapter.encode_prompts(PROMPTS),
        noise=noise,
        steps=3,
        guidance_scale=3.0,
        unconditional=adapter.encode_prompts([""]),
    )
    return (found - expected).abs().max().item()


@pytest.mark.parametrize(("name", "mistake"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_predict_breaks_parity(name, mistake, tmp_path):
    def make_it(adapter: Adapter) -> None:
        right = adapter.predict
        adapter.predict = lambda denoiser, *rest: right(Mistaken(denoiser, mistake), *rest)

    assert off_parity(name, tmp_path, make_it) > 1e-3


@pytest.mark.parametrize("name", sorted({name for name, _ in MISTAKES.values()}))
def test_no_mistake_keeps_parity(name, tmp_path):
    """The stand-in itself changes nothing."""

    def make_none(adapter: Adapter) -> None:
        right = adapter.predict
        adapter.predict = lambda denoiser, *rest: right(Mistaken(denoiser, lambda call: call), *rest)

    assert off_parity(name, tmp_path, make_none) < 1e-4


@pytest.mark.parametrize(("name", "mistake"), ADAPTER_MISTAKES)
def test_a_mistake_around_predict_breaks_parity(name, mistake, tmp_path):
    assert off_parity(name, tmp_path, mistake) > 1e-3


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_a_wrong_sign_breaks_parity(name, tmp_path):
    assert off_parity(name, tmp_path, wrong_sign) > 1e-3

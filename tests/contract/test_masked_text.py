"""What a cache does not store of a family's text is never looked at, and comes back as the family would have it."""

import pytest
import torch

from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.data.source import Item, View
from seppo_core.models.adapter import Adapter, CropInfo, Posterior
from tests.cache.winners import ListSource
from tests.contract.family import Family
from tests.contract.rows import FAMILIES

PROMPTS = ["a red house", "two cats under a tree, far too long for so few tokens", ""]
MASKED = [family for family in FAMILIES if family.adapter_class.masked_text]


def predicted(adapter: Adapter, family: Family, condition: dict[str, torch.Tensor]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(len(PROMPTS), *family.latent_shape, generator=generator)
    condition = adapter.with_guidance(condition, 3.0) if adapter.guidance == "embedded" else condition
    with torch.no_grad():
        return adapter.predict(adapter.denoiser, x_t, torch.tensor([10.0, 500.0, 900.0]), condition)


@pytest.fixture
def adapter(family: Family, tmp_path) -> Adapter:
    adapter = family.adapter(tmp_path / "words")
    generator = torch.Generator().manual_seed(0)
    # zero-initialised weights would hide what is looked at
    for parameter in adapter.denoiser.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return adapter


@pytest.mark.parametrize("family", MASKED, ids=lambda family: family.name)
@pytest.mark.parametrize("fill", [0.0, 7.0])
def test_the_denoiser_does_not_look_behind_the_mask(adapter, family, fill):
    condition = adapter.encode_prompts(PROMPTS)
    assert adapter.masked_text == {"text": "mask"}
    seen = condition["mask"].bool().unsqueeze(-1)
    assert not seen.all()
    blanked = condition | {"text": torch.where(seen, condition["text"], torch.full_like(condition["text"], fill))}
    assert torch.equal(predicted(adapter, family, condition), predicted(adapter, family, blanked))
    shorter = condition | {"text": torch.where(seen.cumsum(1) < seen.sum(1, True), condition["text"], 7.0)}
    assert not torch.equal(predicted(adapter, family, condition), predicted(adapter, family, shorter))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_cached_condition_predicts_as_a_fresh_one(adapter, family, tmp_path):
    class Texts(ListSource):
        """Pictures of no consequence."""

        def item(self, position):
            view = View(self.pixels(position), CropInfo(64, 64, 0, 0, 64, 64))
            return Item(f"{position}", f"{position}.png", self.captions[position], {"winner": view})

    shape = family.latent_shape
    source = Texts(PROMPTS[:2])
    adapter.latent_shape = lambda height, width, frames=1: shape
    adapter.encode = lambda pixels: Posterior(torch.zeros(len(pixels), *shape), torch.zeros(len(pixels), *shape))
    prepare(adapter, source, tmp_path / "cache", model="tiny", progress=False)
    cache = WinnerCache(tmp_path / "cache")
    cached = cache.condition([0, 1, 0], [False, False, True])
    framing = CropInfo(64, 64, 0, 0, 64, 64)
    fresh = adapter.encode_prompts(PROMPTS) | adapter.size_condition([framing] * 3)
    assert {name: tensor.shape for name, tensor in cached.items()} == {n: t.shape for n, t in fresh.items()}
    # the captions above were encoded two at a time, here all at once
    assert torch.allclose(predicted(adapter, family, cached), predicted(adapter, family, fresh), atol=1e-5)
    if family in MASKED or family.name.startswith("wan"):
        assert cache.manifest.text_lengths == {"text": fresh["text"].shape[1]}

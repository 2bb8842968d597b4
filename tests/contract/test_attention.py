"""loop.attention=xformers, for every family: it computes what SDPA does, or it is refused.

xformers runs on CUDA alone. Here its one operation is a stand-in that refuses what xformers 0.0.35 refuses of a CUDA
tensor and otherwise is SDPA, so that what diffusers hands to it is compared.
"""

from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from diffusers.models import attention, attention_dispatch, attention_processor
from torch import Tensor

from seppo_core.models import attention as ours
from seppo_core.models.adapter import Adapter
from seppo_core.models.attention import set_attention
from tests.contract.family import Family
from tests.contract.rows import FAMILIES

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)

PRECISIONS = ["float32", "autocast", "bfloat16 weights"]
CUDA = torch.device("cuda")


class Xformers(ModuleType):
    """Stands for the package; `calls` counts those of its operation."""

    def __init__(self):
        super().__init__("xformers")
        self.calls = 0
        # diffusers' modules look for the operation in either place
        self.ops = self

    def memory_efficient_attention(self, query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None) -> Tensor:
        """(b, tokens, d) each, or (b, tokens, heads, d)."""
        self.calls += 1
        if not query.dtype == key.dtype == value.dtype:
            raise ValueError("Query/Key/Value should either all have the same dtype")
        q, k, v = (x if x.ndim == 3 else x.transpose(1, 2) for x in (query, key, value))
        if attn_bias is not None:
            assert attn_bias.shape == (*q.shape[:-1], k.shape[-2]), "xformers broadcasts no bias"
            aligned = 128 // torch.finfo(query.dtype).bits
            if attn_bias.dtype != query.dtype or any(stride % aligned for stride in attn_bias.stride()[:-1]):
                raise NotImplementedError("No operator found for `memory_efficient_attention_forward`")
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_bias, dropout_p=p, scale=scale)
        return out if out.ndim == 3 else out.transpose(1, 2)


@pytest.fixture
def xformers(monkeypatch) -> Xformers:
    """diffusers and this package find xformers and CUDA, until something is put there."""
    package, draw, norm = Xformers(), torch.randn, F.rms_norm
    monkeypatch.setattr(ours, "find_spec", lambda name: package)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in (attention, attention_processor):
        monkeypatch.setattr(module, "is_xformers_available", lambda: True)
    monkeypatch.setattr(attention_processor, "xformers", package, raising=False)
    for module in (attention, attention_dispatch):
        monkeypatch.setattr(module, "xops", package, raising=False)
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_XFORMERS_ATTN", True, raising=False)
    # diffusers tries the operation once, on the device
    monkeypatch.setattr(torch, "randn", lambda *shape, device=None, **more: draw(*shape, **more))

    def in_float32(x, *arguments) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return norm(x, *arguments)
        return norm(x.float(), *(a.float() if isinstance(a, Tensor) else a for a in arguments))

    # on CUDA, unlike here, autocast raises this norm to float32
    monkeypatch.setattr(F, "rms_norm", in_float32)
    return package


def adapter_of(family: Family, tmp_path, precision: str) -> Adapter:
    adapter = family.adapter(tmp_path / "words")
    adapter.denoiser.eval()
    if precision == "bfloat16 weights":
        adapter.denoiser.to(torch.bfloat16)
    return adapter


def answer(adapter: Adapter, family: Family, precision: str, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """A prediction, and its gradient with respect to x_t, for more items than there are latent channels or frames."""
    x_t = torch.randn(5, *family.latent_shape, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    adapter.denoiser.to("cpu")
    condition = adapter.encode_prompts(["a red house", "two cats", "", "a tree", "a longer caption of some more words"])
    condition = {name: value.to(device) for name, value in condition.items()}
    adapter.denoiser.to(device)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision != "float32"):
        prediction = adapter.predict(adapter.denoiser, x_t, torch.full((5,), 500, device=device), condition)
    return prediction.detach().float(), torch.autograd.grad(prediction.float().square().mean(), x_t)[0]


def agree(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], precision: str) -> bool:
    # the plain form shapes its batches otherwise, which rounds otherwise
    limit = 1e-5 if precision == "float32" else 0.04
    return all((a - b).norm() < limit * b.norm() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_xformers_computes_the_same_or_is_refused(family, tmp_path, xformers, precision):
    adapter = adapter_of(family, tmp_path, precision)
    expected = answer(adapter, family, precision)
    if adapter.xformers:
        set_attention(adapter, "xformers", CUDA)
    else:
        with pytest.raises(ValueError, match=r"use loop\.attention=sdpa"):
            set_attention(adapter, "xformers", CUDA)
    xformers.calls = 0
    found = answer(adapter, family, precision)
    # in every attention of the denoiser, or in none
    assert xformers.calls == (len(adapter.denoiser.attn_processors) if adapter.xformers else 0)
    assert agree(found, expected, precision) if adapter.xformers else torch.equal(found[0], expected[0])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_xformers_itself_computes_the_same_on_a_card(family, tmp_path, precision):
    pytest.importorskip("xformers", reason="not installed")
    adapter = adapter_of(family, tmp_path, precision)
    if not adapter.xformers:
        pytest.skip("this family takes no xformers")
    expected = answer(adapter, family, precision, "cuda")
    set_attention(adapter, "xformers", CUDA)
    assert all("XFormers" in type(one).__name__ for one in adapter.denoiser.attn_processors.values())
    found = answer(adapter, family, precision, "cuda")
    # products in the GPU's TF32 have ten bits
    limit = 2e-3 if precision == "float32" else 0.04
    assert all((a - b).norm() < limit * b.norm() for a, b in zip(found, expected, strict=True))


def works(family: Family, tmp_path, precision: str) -> bool:
    """Whether what diffusers itself would switch to computes the same."""
    adapter = adapter_of(family, tmp_path, precision)
    expected = answer(adapter, family, precision)
    try:
        adapter.denoiser.enable_xformers_memory_efficient_attention()
        return agree(answer(adapter, family, precision), expected, precision)
    except (RuntimeError, ValueError, NotImplementedError):
        return False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_xformers_is_refused_only_where_it_does_not_work(family, tmp_path, xformers):
    assert family.adapter(tmp_path / "words").xformers == all(works(family, tmp_path, each) for each in PRECISIONS)

"""Frozen blocks that wait in CPU memory: the same losses and gradients bit for bit, and never more than two at once.

A block that is away has empty weights, so that whatever used them would fail here as it would on a GPU.
"""

from dataclasses import replace

import pytest
import torch

from seppo_core.methods.reference import LoraView
from seppo_core.methods.step import Batch
from seppo_core.models.blocks import blocks
from seppo_core.models.offload import OffloadedBlocks
from seppo_core.models.tuning import trainable_state
from tests.contract.family import Family
from tests.contract.rows import FAMILIES
from tests.contract.test_training import batch_of, lora_policy, loss_and_gradients, shaken

TRANSFORMERS = [family for family in FAMILIES if not family.model.spec.unet]


def on(batch: Batch, device: str) -> Batch:
    moved = {name: value.to(device) for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return replace(batch, **moved, condition={name: value.to(device) for name, value in batch.condition.items()})


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("family", TRANSFORMERS, ids=lambda family: family.name)
def test_blocks_that_come_and_go_change_nothing(family: Family, tmp_path, device):
    found, most = [], 0
    for offloaded in (False, True):
        adapter = lora_policy(family, tmp_path)
        denoiser = adapter.denoiser
        denoiser.enable_gradient_checkpointing()
        row = blocks(denoiser)
        if offloaded:
            OffloadedBlocks(denoiser, torch.device(device))
            frozen = [[p for p in block.parameters() if not p.requires_grad] for block in row]
            assert not any(p.numel() for block in frozen for p in block)

            def count(*_, frozen=frozen):
                nonlocal most
                most = max(most, sum(any(p.numel() for p in block) for block in frozen))

            for block in row:
                block.register_forward_pre_hook(count)
        denoiser.to(device)
        reference = LoraView(denoiser)
        reference.load(shaken(trainable_state(denoiser), seed=3))
        batch = on(batch_of(adapter, family), device)
        # twice: the second pass begins with what the first left behind
        for _ in range(2):
            found.append(loss_and_gradients(adapter, reference, batch))
    (_, loss, gradients), *others = found
    assert gradients and all(gradient.abs().sum() > 0 for gradient in gradients.values())
    for _, other, theirs in others:
        assert torch.equal(loss, other)
        assert all(torch.equal(gradients[name], theirs[name]) for name in gradients)
    assert 1 <= most <= 2

"""Twenty updates on a LoRA, per family, against a stored curve: what moves a loss does not go unseen.

A curve of our own making proves nothing about being right; the rest of the contract does that. It tells a change that
was meant from one that was not. `SEPPO_WRITE=1 pytest tests/contract/test_curves.py` writes it anew: say in LOG.md why.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from seppo_core.io.rng import keyed_generator, keyed_normal
from seppo_core.methods.objectives import Seppo
from seppo_core.methods.reference import make_reference
from seppo_core.methods.step import Batch
from seppo_core.models.tuning import trainable_parameters, trainable_state, tune_lora
from tests.contract.families import FAMILIES

STORED = Path(__file__).with_name("curves.json")
STEPS = 20
BATCH = 2
# rounding differs between processors: by 2e-5 between kernels for AVX-512 and for none of its kind
TOLERANCE = 1e-3


def curve(family, folder: Path) -> list[float]:
    adapter = family.adapter(folder)
    adapter.denoiser.eval()
    tune_lora(adapter.denoiser, adapter.lora_targets["all"], rank=2, alpha=4)
    reference = make_reference(adapter.denoiser)
    optimizer = torch.optim.AdamW(trainable_parameters(adapter.denoiser).values(), lr=3e-3, eps=1e-3)
    condition = adapter.encode_prompts(["a red house", "two cats"])
    losses = []
    for step in range(STEPS):
        # a new reference every ten updates, the policy as it then is
        if step % 10 == 0:
            reference.load(trainable_state(adapter.denoiser))
        winner, sample, *noise = (keyed_normal((BATCH, *family.latent_shape), name, step) for name in "wsab")
        u = torch.rand(BATCH, generator=keyed_generator("u", step), dtype=torch.float64)
        batch = Batch(0.5 * winner + 0.5, condition, adapter.path.timesteps(u), noise[0], sample, noise[1])
        # the anchor off: a sign that hangs on the last digit would make another curve of another processor
        loss, _ = Seppo(20.0, "off").loss(adapter, adapter.denoiser, reference, batch, {})
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(round(loss.item(), 6))
    return losses


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_losses_follow_the_stored_curve(family, tmp_path):
    found = curve(family, tmp_path / "words")
    # a curve that stays at log 2 would guard nothing
    assert max(found) - min(found) > 0.02
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if os.environ.get("SEPPO_WRITE") == "1":
        stored[family.name] = found
        lines = [f"{json.dumps(name)}: {json.dumps(stored[name])}" for name in sorted(stored)]
        STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert found == pytest.approx(stored[family.name], rel=TOLERANCE)

"""Twenty updates on a LoRA, per family. `python -m tests.contract.curves` stores the curves that curves.json lacks.

After a change that was meant to move losses: `python -m tests.contract.curves NAME ...` stores these anew. Say in
LOG.md why.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from seppo_core.io.rng import keyed_generator, keyed_normal
from seppo_core.methods.reference import make_reference
from seppo_core.methods.seppo import Seppo
from seppo_core.methods.step import Batch
from seppo_core.models.tuning import trainable_parameters, trainable_state, tune_lora
from tests.contract.family import Family
from tests.contract.rows import FAMILIES

STORED = Path(__file__).with_name("curves.json")
STEPS = 20
BATCH = 2


def curve(family: Family, folder: Path) -> list[float]:
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
        batch = Batch(
            x0=0.5 * winner + 0.5, condition=condition, t=adapter.path.timesteps(u), noise=noise[0],
            noise_path=adapter.path, counterpart=sample, counterpart_noise=noise[1],
        )  # fmt: skip
        # the anchor off: a sign that hangs on the last digit would make another curve of another processor
        loss, _ = Seppo(beta=20.0, flipper="off").loss(adapter, adapter.denoiser, reference, batch, {})
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(round(loss.item(), 6))
    return losses


def main(anew: list[str]) -> None:
    stored = json.loads(STORED.read_text())
    for family in FAMILIES:
        if family.name in anew or family.name not in stored:
            with TemporaryDirectory() as folder:
                stored[family.name] = curve(family, Path(folder))
    lines = [f"{json.dumps(name)}: {json.dumps(stored[name])}" for name in sorted(stored)]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])

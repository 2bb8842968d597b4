"""Python of README, docs/python.md and docs/using_the_result.md runs as it stands: a tiny model, a cache and an export
stand at the paths it names."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seppo_core.config.loader import resolved_yaml
from seppo_image.families.stable_diffusion import StableDiffusionModel
from seppo_image.stable_diffusion import StableDiffusion
from tests.contract.shown import trained
from tests.docs.pages import blocks

ROOT = Path(__file__).parents[1]
TEXT = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/python.md"))
# the README's block is one of the page's
BLOCKS = list(dict.fromkeys(re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_of_the_readme_runs(workshop, tmp_path, monkeypatch, block):
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r'"(configs/image/\S+\.yaml)"', block):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(resolved_yaml(workshop.config(tmp_path / "run", "lora")))
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert ".train()" not in block or (tmp_path / "run" / "metrics.jsonl").is_file()


def test_python_that_uses_a_result_draws_a_picture_with_it(workshop, tmp_path, monkeypatch):
    """Another one than without the LoRA, and the one that the policy itself draws from that noise."""
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(Path("docs/using_the_result.md"), "python")
    base, lora = re.findall(r'"([\w./-]+/[\w./-]+)"', block)
    Path(base).parent.mkdir(parents=True)
    Path(base).symlink_to(workshop.base)
    adapter = StableDiffusion.load(StableDiffusionModel(base=str(workshop.base)), torch.float32)
    trained(adapter, "lora", "all", Path(lora))
    drawn = []
    for code in (block, block.replace("pipe.load_lora_weights", "#")):
        names: dict = {}
        exec(compile(code, "using_the_result.md", "exec"), names)
        drawn.append(np.asarray(Image.open("lighthouse.png")).astype(int))
    ours = adapter.pipeline(
        names["prompt"], num_inference_steps=25, generator=torch.Generator().manual_seed(0), output_type="np"
    ).images[0]
    assert np.abs(drawn[0] - (255 * ours).round()).max() <= 2
    assert np.abs(drawn[0] - drawn[1]).max() > 10


def test_the_quickstart_has_the_readme_s_config():
    (config,) = blocks(Path("README.md"), "yaml")
    assert config in blocks(Path("docs/quickstart.md"), "yaml")

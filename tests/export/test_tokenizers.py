"""A whole pipeline that was exported is a base that fits the cache of the base that it was trained from."""

from dataclasses import replace
from pathlib import Path

import torch

from seppo_core.config.loader import load_config
from seppo_core.export.weights import write_full
from seppo_core.models.fingerprint import frozen_fingerprint
from seppo_image import commands
from seppo_image.config import ImageConfig


def test_a_used_tokenizer_is_exported_as_it_was_loaded(tmp_path):
    config = load_config(Path("configs/toy/image_sft.yaml"), ImageConfig)
    adapter = commands.load(config)
    with torch.no_grad():
        adapter.encode_prompts(["a small red circle on black"])
    write_full(adapter, tmp_path / "out", model=config.model)
    exported = replace(config, model=replace(config.model, base=str(tmp_path / "out")))
    found = frozen_fingerprint(commands.load(exported), exported.model)
    assert found == frozen_fingerprint(adapter, config.model)

"""What libraries say at every start and nobody can act on is left out; what can be acted on is not."""

import logging

import torch

from seppo_core.models.patch_vae import PatchVAE


def test_a_cast_warns_of_modules_in_float32_only_where_there_are_some(caplog, monkeypatch):
    """diffusers writes the line though it names no module; the real class is cast, and one that keeps a part."""

    class Keeps(PatchVAE):
        _keep_in_fp32_modules = ("decoder",)

    # diffusers keeps its lines from the root logger, and other tests change its level
    logger = logging.getLogger("diffusers.models.modeling_utils")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    caplog.set_level(logging.WARNING, logger=logger.name)
    PatchVAE().to(torch.float16)
    assert caplog.text == ""
    Keeps().to(torch.float16)
    assert "should be kept in float32: ('decoder',)" in caplog.text

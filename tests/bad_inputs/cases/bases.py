"""Bases as they are found, and run files that are not what they were."""

import json
import shutil
from pathlib import Path

from tests.bad_inputs.workspace import PREPARE, Case, after, options, own_base


def no_vocabulary() -> None:
    folder = own_base() / "tokenizer"
    for name in ("vocab.json", "merges.txt", "tokenizer.json"):
        (folder / name).unlink(missing_ok=True)


def of_another_family() -> None:
    index = own_base() / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "FluxPipeline"}))


def of_inpainting() -> None:
    config = own_base() / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 9}))


CASES = [
    Case("base", "a base for inpainting, and a size that no latent fits",
         after(of_inpainting, *PREPARE, "--data.height", "60"),
         says="takes 9 and gives 4 channels.*; height × width = 60"),
    Case("base", "a tokenizer without its vocabulary", after(no_vocabulary, *PREPARE), says="holds no vocabulary"),
    Case("base", "no VAE", after(lambda: shutil.rmtree(own_base() / "vae"), *PREPARE), says="vae: there is no such"),
    Case("base", "a variant that is not there", options(*PREPARE[:1], "--model.variant", "fp16"),
         says=r"leave model\.variant out"),
    Case("base", "a base of another family", after(of_another_family, *PREPARE), says=r"set model\.family=flux"),
    Case("base", "a name with a NUL", options("train", "--run", "a\0b"), says="NUL"),
    Case("run", "status of a run whose config is empty",
         after(lambda: Path("run/config.yaml").write_text("{}"), "status", "run"), needs="run", says="is damaged"),
]  # fmt: skip

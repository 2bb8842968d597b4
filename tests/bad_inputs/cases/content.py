"""Files that hold something else than when they were written, at the same size."""

import os
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.bad_inputs.workspace import CONFIG, PREPARE, Case, after, checkpoint, edit, own_base


def scale(part: str, factor: float) -> None:
    file = own_base() / part / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * factor for name, tensor in load_file(file).items()}, file, {"format": "pt"})


def flip(file: Path) -> None:
    """One bit, and the time as it was."""
    content, times = bytearray(file.read_bytes()), file.stat()
    content[-9] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


CASES = [
    Case("run", "a base of 1.5 times its weights, at export", after(lambda: scale("unet", 1.5), "export", CONFIG),
         needs="run", says=r"\(unet\).*--accept_changes model"),
    Case("run", "a bit of a checkpoint", after(lambda: flip(checkpoint("optimizer.pt"))), needs="run",
         says="another content than was written.*move it away"),
    Case("base", "a bit of its model_index.json",
         after(lambda: edit(f"{own_base()}/model_index.json", lambda t: t.replace("UNet2D", "UNet6D")), *PREPARE),
         says="UNet6DConditionModel, which is not known here"),
    Case("data", "a VAE of 1.3 times its weights", after(lambda: scale("vae", 1.3)), says=r"\(vae\)"),
    Case("data", "a bit of a cached picture", after(lambda: flip(Path("cache/items-00000.safetensors"))),
         says="items-00000.safetensors has another content.*--mend true"),
]  # fmt: skip

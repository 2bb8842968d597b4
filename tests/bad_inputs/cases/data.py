"""Pictures, captions and caches."""

import os
from pathlib import Path

from PIL import Image

from tests.bad_inputs.workspace import PREPARE, Case, after, edit, negate, options, own_base, rejected, rows, write_rows


def large_picture() -> None:
    Image.new("1", (25_000, 25_000)).save("pictures/0.png")


def other_vae() -> None:
    negate(own_base() / "vae" / "diffusion_pytorch_model.safetensors")


CASES = [
    Case("data", "the folder is not there", options("prepare", "--data.source", "picturse"), says="picturse.*pictures"),
    Case("data", "no captions beside the files", after(lambda: Path("pictures/metadata.jsonl").unlink(), *PREPARE),
         says="metadata.jsonl"),
    Case("data", "a line of the captions is broken",
         after(lambda: edit("pictures/metadata.jsonl", lambda t: t.replace('"}', "", 1)), *PREPARE), status=0,
         says="line 1", reads=rejected),
    Case("data", "captions under another name",
         after(lambda: edit("pictures/metadata.jsonl", lambda t: t.replace('"caption"', '"words"')), *PREPARE),
         says="caption"),
    Case("data", "a picture is cut off in the middle",
         after(lambda: os.truncate("pictures/0.png", 2000), *PREPARE), status=0, says="0.png", reads=rejected),
    Case("data", "a text file that is called .png",
         after(lambda: Path("pictures/0.png").write_text("hello"), *PREPARE), status=0, says="0.png", reads=rejected),
    Case("data", "a picture that would unpack to 625 million pixels", after(large_picture, *PREPARE), status=0,
         says="0.png", reads=rejected),
    Case("data", "a file that is listed and not there", after(lambda: Path("pictures/0.png").unlink(), *PREPARE),
         status=0, says="0.png", reads=rejected),
    Case("data", "an empty caption", after(lambda: write_rows([rows()[0] | {"caption": " "}, *rows()[1:]]), *PREPARE),
         status=0, says="empty caption", reads=rejected),
    Case("data", "a file name that leads out of the folder",
         after(lambda: write_rows([rows()[0] | {"file_name": "../base/model_index.json"}, *rows()[1:]]), *PREPARE),
         status=0, says=r"\.\.", reads=rejected),
    Case("data", "more files unusable than allowed",
         after(lambda: [Path(f"pictures/{n}.png").write_text("x") for n in range(5)], *PREPARE), says="5 of 8 items"),
    Case("data", "the cache's folder holds something else",
         after(lambda: (Path("new").mkdir(), Path("new/thesis.txt").write_text("mine")), *PREPARE), says="thesis.txt"),
    Case("data", "the cache was made at another size", options("prepare", "--data.height", "32", "--data.width", "32"),
         says="made otherwise"),
    Case("data", "a method that learns from pairs, on winners", options("prepare", "--method.name", "dpo"),
         says=r"data\.supervision=pairs"),
    Case("data", "training before preparing", options("train", "--data.cache", "none"), says="run `prepare`"),
    Case("data", "the cache was made with another VAE", after(other_vae), says="another VAE"),
    Case("data", "mirrored winners that were not prepared", options("train", "--data.flip", "true"), says="data.flip"),
]  # fmt: skip

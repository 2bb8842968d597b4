"""Whatever is damaged of a base, in a folder or in one file, `prepare` answers in one line and makes no cache.

Weights whose numbers alone changed cannot be told from others where a base is first used, unless they are not finite.
"""

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from seppo_core.config.loader import resolved_yaml
from seppo_image.__main__ import main
from tests.models import original_layout
from tests.workshop import write_pictures

pytestmark = pytest.mark.slow

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def header_length(file: Path) -> int:
    return 8 + int.from_bytes(file.read_bytes()[:8], "little")


def write(content):
    return lambda file: file.write_bytes(content(file.read_bytes()))


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]


def not_finite(file: Path) -> None:
    """Every number of the file's tensors as 0xff…, which is no number in any precision."""
    start = header_length(file)
    content = file.read_bytes()
    file.write_bytes(content[:start] + b"\xff" * (len(content) - start))


def pickled(file: Path) -> None:
    file.rename(file.with_suffix(".bin"))


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


ANY = {
    "empty": write(lambda content: b""),
    "zeros": write(lambda content: bytes(len(content))),
    "noise": write(lambda content: b"\x93\xfe\x00" * (len(content) // 3 + 1)),
    "pointer": write(lambda content: POINTER),
    "gone": lambda file: file.unlink(),
    "a folder": folder,
    "a link to nothing": dangling,
}
WEIGHTS = ANY | {
    "cut in its head": write(lambda content: content[:100]),
    "one byte short": write(lambda content: content[:-1]),
    "one byte more": write(lambda content: content + b"\0"),
    "half": write(lambda content: content[: len(content) // 2]),
    "a bit of its length": write(lambda content: flipped(content, 0)),
    "a bit of a high byte of its length": write(lambda content: flipped(content, 6)),
    "a bit of its head": write(lambda content: flipped(content, 9)),
    "a bit of the middle of its head": lambda file: file.write_bytes(
        flipped(file.read_bytes(), header_length(file) // 2)
    ),
    "not finite": not_finite,
    "as bin alone": pickled,
}
TEXT = ANY | {
    "half": write(lambda content: content[: len(content) // 2]),
    "null": write(lambda content: b"null"),
    "a list": write(lambda content: b"[1, 2]"),
    "a string": write(lambda content: b'"x"'),
    "no keys": write(lambda content: b"{}"),
    "numbers for words": write(lambda content: json.dumps(dict.fromkeys(json.loads(content), 1)).encode()),
}
BASE = {
    "unet/diffusion_pytorch_model.safetensors": WEIGHTS,
    "vae/diffusion_pytorch_model.safetensors": WEIGHTS,
    "text_encoder/model.safetensors": WEIGHTS,
    "model_index.json": TEXT,
    "unet/config.json": TEXT,
    "vae/config.json": TEXT,
    "text_encoder/config.json": TEXT,
    "scheduler/scheduler_config.json": TEXT,
    "tokenizer/tokenizer.json": TEXT,
    "tokenizer/tokenizer_config.json": TEXT,
    **{name: {"gone": shutil.rmtree} for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")},
}
SINGLE = {
    "one.safetensors": WEIGHTS,
    **{f"rest/{name}": BASE[name] for name in BASE if "." in name and not name.endswith(".safetensors")},
    "rest/tokenizer": {"gone": shutil.rmtree},
}
CASES = [
    pytest.param(kind, name, damage, id=f"{kind}: {name}: {damage}")
    for kind, files in {"folder": BASE, "file": SINGLE}.items()
    for name, damages in files.items()
    for damage in damages
]
HARMLESS = {
    # without them, what the vocabulary or the published model's configs say is used
    *((name, damage) for name in ("tokenizer/tokenizer_config.json", "rest/tokenizer/tokenizer_config.json")
      for damage in ("gone", "no keys", "numbers for words")),
    *((f"rest/{name}", "gone") for name in ("model_index.json", "scheduler/scheduler_config.json")),
    # `prepare` runs no denoiser; `train` refuses it
    ("unet/diffusion_pytorch_model.safetensors", "not finite"),
}  # fmt: skip


@pytest.fixture(scope="module")
def template(workshop, tmp_path_factory) -> Path:
    room = tmp_path_factory.mktemp("bases")
    original_layout.lay_out(room)
    write_pictures(room / "pictures", 2)
    (room / "config.yaml").write_text(resolved_yaml(workshop.config(Path("run"))))
    return room


def prepare(template: Path, room: Path, kind: str, spoil) -> tuple[int, str]:
    """Status and error stream of `prepare` on a base that `spoil` damaged in the copy `room`."""
    shutil.copytree(template, room, symlinks=True)
    base = ["base"] if kind == "folder" else ["one.safetensors", "--model.single_file_config", "rest"]
    options = ["--data.source", "pictures", "--data.cache", "cache", "--data.flip", "false", "--model.base", *base]
    with contextlib.chdir(room), contextlib.redirect_stderr(io.StringIO()) as stream:
        spoil()
        return main(["prepare", "config.yaml", *options]), stream.getvalue()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_whole_one_is_prepared(template, tmp_path, kind):
    status, errors = prepare(template, tmp_path / "room", kind, lambda: None)
    assert status == 0, errors


@pytest.mark.parametrize(("kind", "name", "damage"), CASES)
def test_a_damaged_one_is_refused_in_one_line(template, tmp_path, kind, name, damage):
    place = Path("base") / name if kind == "folder" else Path(name)
    spoil = (BASE if kind == "folder" else SINGLE)[name][damage]
    status, errors = prepare(template, tmp_path / "room", kind, lambda: spoil(place))
    lines = [line for line in errors.splitlines() if line.startswith("seppo-image: ") and "warning" not in line]
    assert "TRAIN" not in errors
    if (name, damage) in HARMLESS and status == 0:
        return
    assert status == 2, errors
    assert len(lines) == 1 and "Traceback" not in errors, errors
    assert not (tmp_path / "room" / "cache" / "manifest.json").exists()

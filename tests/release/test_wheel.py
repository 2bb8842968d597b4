"""Both distributions, and the wheel in an environment of its own, away from the checkout: `init toy` to `export`."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from seppo_core.cli.recipes import recipes
from seppo_core.run.previews import read_previews
from tests.video.clips import encode, moving

ROOT = Path(__file__).parents[2]
PACKAGES = ("seppo_core", "seppo_image", "seppo_video")


class Toy(NamedTuple):
    """What `init toy` leads to in a modality."""

    updates: int
    gain: float
    """What the held-out score has to gain at least, with the interval above zero."""
    prompt: str
    suffix: str
    base: str
    """Of `init mine`, where it is not the default."""


TOYS = {
    "image": Toy(70, 0.01, "a small red circle on black", "png", "stabilityai/stable-diffusion-xl-base-1.0"),
    "video": Toy(48, 0.01, "a red circle moving left on black", "mp4", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"),
}
PYTHON_API = """
from pathlib import Path
import seppo_core
from seppo_core.config.options import SampleRequest
from seppo_{modality} import Run

assert "env" in Path(seppo_core.__file__).parts, seppo_core.__file__
run = Run.from_config("toy/toy.yaml", {{"preview.steps": 2}})
out = run.sample(SampleRequest(prompts=("{prompt}",), seeds=(0, 1), out="drawn"))
assert len(list(out.glob("*.{suffix}"))) == 2
"""


def test_the_version_stands_in_one_place_and_the_changelog_begins_with_it():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first[1] == version
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source distribution of the checkout and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    backend = folder / "backend"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", backend, "hatchling"], check=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(backend)}, check=True)
    (source,) = folder.glob("seppo-*.tar.gz")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source], check=True)
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The folder of programs of an environment with the wheel, which sees the libraries of this one."""
    folder = tmp_path_factory.mktemp("release")
    (wheel,) = built.glob("seppo-*.whl")
    venv.create(folder / "env", symlinks=os.name != "nt")
    (python,) = folder.glob("env/*/python" if os.name != "nt" else "env/*/python.exe")
    paths = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel], check=True
    )
    # a path alone: an editable installation in it stays unseen
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return python.parent


@pytest.mark.slow
def test_both_distributions_hold_the_whole_product(built):
    (source,), (wheel,) = built.glob("seppo-*.tar.gz"), built.glob("seppo-*.whl")
    assert wheel.stat().st_size < 15e6 and source.stat().st_size < 20e6
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    tracked = {name for name in listed if (ROOT / name).is_file()}
    assert {name for name in tracked if not name.startswith("benchmarks/results/")} <= inside
    assert inside <= tracked | {"PKG-INFO"} | set(_untracked())
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    assert {name for name in tracked if name.startswith(PACKAGES)} <= shipped
    assert {f"seppo_core/shipped/{name}" for name in tracked if name.startswith("configs/")} <= shipped


def _untracked() -> list[str]:
    """New files that are not ignored: hatchling takes them too."""
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize("modality", TOYS)
def test_from_the_wheel_to_an_aligned_model(installed, tmp_path, modality):
    toy, program = TOYS[modality], f"seppo-{modality}"
    where = tmp_path / "elsewhere"
    where.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}

    def call(*words: str) -> str:
        done = subprocess.run(
            [installed / words[0], *words[1:]], cwd=where, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    assert "init toy" in call(program, "--help")
    listed = call(program, "init", "--list")
    assert all(name in listed for name in recipes(modality))
    told = call(program, "init", "toy")
    # every command names the one that comes here after it
    for command in ("plan", "prepare", "train"):
        assert f"{program} {command} toy/toy.yaml" in told
        told = call(program, command, "toy/toy.yaml")
    assert f"{program} export toy/toy.yaml" in told and "against the start's" in told
    previews = read_previews(where / "toy/run")
    assert previews.scored[-1].update == toy.updates
    gain = previews.scored[-1].gain(previews.start)
    assert gain.value > toy.gain and gain.low > 0
    assert f"next: {program} export" in call(program, "sample", "toy/toy.yaml")
    assert "README.md" in call(program, "export", "toy/toy.yaml")
    (exported,) = (where / "toy/run/export").iterdir()
    assert (exported / "model_index.json").is_file()
    call("python", "-c", PYTHON_API.format(modality=modality, prompt=toy.prompt, suffix=toy.suffix))

    own = _own_data(where, modality)
    told = call(program, "init", "mine", "--data", own, "--base", toy.base)
    assert "own: 3 " in told and f"next: {program} plan mine.yaml --gpu" in told
    assert toy.base in (where / "mine.yaml").read_text(encoding="utf-8")
    assert "torch" in call(program, "doctor")


def _own_data(where: Path, modality: str) -> str:
    """Three pictures of the toy, or three clips that are long enough for the recipe, with their captions."""
    own = where / "own"
    own.mkdir()
    for number in range(3):
        if modality == "video":
            encode(own / f"{number}.mp4", moving(80), "libx264", "yuv420p")
            (own / f"{number}.txt").write_text(f"clip {number}", encoding="utf-8")
    if modality == "image":
        rows = (where / "toy/winners/metadata.jsonl").read_text(encoding="utf-8").splitlines()[:3]
        for row in rows:
            name = json.loads(row)["file_name"]
            (own / name).write_bytes((where / "toy/winners" / name).read_bytes())
        (own / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return own.name

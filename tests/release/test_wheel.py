"""The wheel, in an environment of its own and away from the checkout: from `init toy` to an export, offline."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from seppo_core.run.previews import read_previews

ROOT = Path(__file__).parents[2]
PYTHON_API = """
from pathlib import Path
import seppo_core, seppo_image
from seppo_core.config.options import SampleRequest
from seppo_image import Run

assert "elsewhere" not in seppo_core.__file__ and "env" in Path(seppo_core.__file__).parts, seppo_core.__file__
run = Run.from_config("toy/toy.yaml", {"preview.steps": 2})
out = run.sample(SampleRequest(prompts=("a small red circle on black",), seeds=(0, 1), out="drawn"))
assert len(list(out.glob("*.png"))) == 2
"""


def test_the_version_stands_in_one_place_and_the_changelog_begins_with_it():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first[1] == version
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of programs of an environment with the wheel, which sees the libraries of this one."""
    folder = tmp_path_factory.mktemp("release")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("seppo-*.whl")
    assert wheel.stat().st_size < 15e6
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
def test_from_the_wheel_to_an_aligned_model(installed, tmp_path):
    where = tmp_path / "elsewhere"
    where.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}

    def call(*words: str) -> str:
        done = subprocess.run(
            [installed / words[0], *words[1:]], cwd=where, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    assert "init toy" in call("seppo-image", "--help")
    assert "sdxl_lora_seppo" in call("seppo-image", "init", "--list")
    assert "wan21_1_3b_lora_seppo" in call("seppo-video", "init", "--list")
    told = call("seppo-image", "init", "toy")
    # every command names the one that comes here after it
    for command in ("plan", "prepare", "train"):
        assert f"seppo-image {command} toy/toy.yaml" in told or command != "plan"
        told = call("seppo-image", command, "toy/toy.yaml")
    assert "seppo-image export toy/toy.yaml" in told and "against the start's" in told
    previews = read_previews(where / "toy/run")
    assert previews.scored[-1].update == 70
    assert previews.scored[-1].gain(previews.start).value > 0.01
    assert "next: seppo-image export" in call("seppo-image", "sample", "toy/toy.yaml")
    assert "README.md" in call("seppo-image", "export", "toy/toy.yaml")
    (exported,) = (where / "toy/run/export").iterdir()
    assert (exported / "model_index.json").is_file()
    call("python", "-c", PYTHON_API)
    assert "torch" in call("seppo-image", "doctor")

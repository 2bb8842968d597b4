"""Imports point down only, files stay small, and what must answer at once does not import torch."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "seppo_core": {"seppo_core"},
    "seppo_image": {"seppo_core", "seppo_image"},
    "seppo_video": {"seppo_core", "seppo_video"},
    "benchmarks": {"seppo_core", "seppo_image", "seppo_video", "benchmarks"},
}
OURS = set(FLOORS)
# a file may import those before it in its line, never the other way round
ORDER = ["losses", "path", "adapter", "tuning", "reference", "sampling", "step", "methods", "trainer", "commands"]
LINES = 350


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", FLOORS)
def test_packages_import_down_only(package):
    for path in files(package):
        reached = {name.split(".")[0] for name in imported(path)} & OURS
        assert reached <= FLOORS[package], f"{path.relative_to(ROOT)} imports {sorted(reached - FLOORS[package])}"


def test_the_core_imports_down_only():
    for position, name in enumerate(ORDER):
        above = {f"seppo_core.{other}" for other in ORDER[position + 1 :]}
        found = imported(ROOT / "seppo_core" / f"{name}.py") & above
        assert not found, f"seppo_core/{name}.py imports {sorted(found)}"


def test_the_core_names_no_family():
    families = ("StableDiffusion", "AnimateDiff", "Flux", "SD3", "Wan", "LTX", "CogVideoX", "UNet2D", "UNetMotion")
    for path in files("seppo_core"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {name.split(".")[-1] for name in imported(path)}
        found = {name for name in names if name.startswith(families)}
        assert not found, f"{path.relative_to(ROOT)} names {sorted(found)}"


@pytest.mark.parametrize("package", [*FLOORS, "tests"])
def test_files_are_small(package):
    long = {
        str(path.relative_to(ROOT)): lines
        for path in files(package)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES
    }
    assert not long, f"over {LINES} lines: {long}; one idea a file"


def test_the_readme_s_map_names_every_file_of_the_core_and_none_besides():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"[\w*]+\.py", text[text.index("    seppo_core/ ") : text.index("    seppo_image/ ")])
    there = [path.name for path in (ROOT / "seppo_core").glob("*.py") if path.name != "__init__.py"]
    assert not [name for name in there if not any(fnmatch(name, pattern) for pattern in named)]
    assert not [pattern for pattern in named if not any(fnmatch(name, pattern) for name in there)]


def test_packages_hand_names_on_and_define_nothing():
    for package in ("seppo_core", "seppo_image", "seppo_video"):
        tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
        defined = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        assert not defined

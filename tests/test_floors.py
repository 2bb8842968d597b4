"""Imports point down only, files stay small, and what must answer at once does not import torch."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "seppo_core": {"seppo_core"},
    "seppo_image": {"seppo_core", "seppo_image"},
    "seppo_video": {"seppo_core", "seppo_video"},
    "benchmarks": {"seppo_core", "seppo_image", "seppo_video", "benchmarks"},
}
EXPERIMENTS = "benchmarks.experiments"
OURS = set(FLOORS)
LAYERS = [
    {"io", "config"},
    {"distributed"},
    {"models"},
    {"data"},
    {"cache"},
    {"methods"},
    {"run"},
    {"training"},
    {"export"},
    {"plan"},
    {"cli"},
]
"""Rooms of the core, lowest first: a room imports from those below it; rooms of one line do not know each other."""
SIDE = {"judging", "report", "toy"}
"""Rooms beside the flow."""
LINES = 350


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    return {name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for name in imported_by(node)}


def imported_by(node: ast.AST) -> set[str]:
    """Full names of the modules that one statement imports; empty for any other statement."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", FLOORS)
def test_packages_import_down_only(package):
    for path in files(package):
        reached = {name.split(".")[0] for name in imported(path)} & OURS
        assert reached <= FLOORS[package], f"{path.relative_to(ROOT)} imports {sorted(reached - FLOORS[package])}"


def test_the_core_imports_down_only():
    level = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    core = ROOT / "seppo_core"
    assert {path.name for path in core.iterdir() if path.is_dir() and path.name != "__pycache__"} == {*level, *SIDE}
    up = set()
    for path in files("seppo_core"):
        room = path.relative_to(core).parts[0]
        if room not in level:
            continue
        reached = {name.split(".")[1] for name in imported(path) if name.startswith("seppo_core.")} & level.keys()
        up |= {(str(path.relative_to(core)), other) for other in reached - {room} if level[other] >= level[room]}
    assert not up


def test_the_evaluation_knows_no_experiment():
    for path in files("benchmarks/evaluation"):
        up = sorted(name for name in imported(path) if f"{name}.".startswith(f"{EXPERIMENTS}."))
        assert not up, f"{path.relative_to(ROOT)} imports {up}"


def test_judges_need_the_standard_library_of_python_3_8():
    """A judge runs in the environment of its authors; importing it also runs these packages' `__init__`."""
    on_the_way = ("seppo_core/__init__.py", "seppo_core/io/__init__.py", "seppo_core/io/lazy.py")
    on_the_way += ("seppo_core/judging/__init__.py",)
    for path in [*(ROOT / name for name in on_the_way), *files("seppo_core/judging/judges")]:
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
        at_once = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {n for node in at_once for n in imported_by(node)}
        outside = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"seppo_core"}
        assert not outside, f"{path.relative_to(ROOT)} imports {sorted(outside)}"
        assert "__future__.annotations" in names or not any(isinstance(n, ast.FunctionDef) for n in tree.body), path


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


def test_packages_hand_names_on_and_define_nothing():
    for package in ("seppo_core", "seppo_image", "seppo_video"):
        tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
        defined = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        assert not defined

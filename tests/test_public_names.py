"""The names that the packages offer: found by `dir`, imported when used, and typed."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = ("seppo_core", "seppo_image", "seppo_video")
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_found_and_imported_when_used(package):
    check = f"import sys, {package} as p; assert 'torch' not in sys.modules; assert set(p.__all__) < set(dir(p))"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
    module = import_module(package)
    assert (ROOT / package / "py.typed").is_file()
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"{package}.*nothing"):
        module.nothing  # noqa: B018


def test_every_method_is_offered():
    import seppo_core
    from seppo_core.config.method import MethodConfig

    for name, config in MethodConfig.variants().items():
        implementation = config.spec.implementation.rpartition(":")[2]
        assert issubclass(getattr(seppo_core, implementation), config), name


@pytest.mark.slow
def test_every_name_has_a_type(tmp_path):
    """A type checker sees through the packages, and finds no name that is missing or Any."""
    pytest.importorskip("mypy")
    names = [f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__]
    lines = [f"import {package}" for package in PACKAGES] + [f"reveal_type({name})" for name in names]
    (tmp_path / "names.py").write_text("\n".join(lines))
    options = ["--follow-imports", "silent", "--ignore-missing-imports", "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *options, str(tmp_path / "names.py")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600).stdout
    assert " error: " not in said
    revealed = re.findall(r'Revealed type is "(.*)"', said)
    assert len(revealed) == len(names)
    untyped = [name for name, type_ in zip(names, revealed, strict=True) if type_.endswith("Any") or "-> Any" in type_]
    assert not untyped, said

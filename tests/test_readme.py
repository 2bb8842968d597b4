"""The README's Python runs as it stands; a tiny model and its cache stand at the paths of the configs that it names."""

import re
from pathlib import Path

import pytest

from seppo_core.config.loader import resolved_yaml

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_of_the_readme_runs(workshop, tmp_path, monkeypatch, block):
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r'"(configs/image/\S+\.yaml)"', block):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(resolved_yaml(workshop.config(tmp_path / "run", "lora")))
    exec(compile(block, str(README), "exec"), {"__name__": "readme"})
    assert ".train()" not in block or (tmp_path / "run" / "metrics.jsonl").is_file()

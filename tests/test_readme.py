"""Python of README and docs/python.md runs as it stands; a tiny model and its cache stand at the paths it names."""

import re
from pathlib import Path

import pytest

from seppo_core.config.loader import resolved_yaml

ROOT = Path(__file__).parents[1]
TEXT = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/python.md"))
# the README's block is one of the page's
BLOCKS = list(dict.fromkeys(re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_of_the_readme_runs(workshop, tmp_path, monkeypatch, block):
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r'"(configs/image/\S+\.yaml)"', block):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(resolved_yaml(workshop.config(tmp_path / "run", "lora")))
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert ".train()" not in block or (tmp_path / "run" / "metrics.jsonl").is_file()

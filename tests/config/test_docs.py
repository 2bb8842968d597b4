"""Commands, YAML, Python and links of the documentation fit the product as it is."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import COMMANDS
from seppo_core.cli import main as cli
from seppo_core.config.loader import load_config
from seppo_image.config import ImageConfig
from tests.config.test_configs import ROOT, SCHEMAS, command_line, shell_lines
from tests.plan.cases import planned

PAGES = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
GENERATED = {Path("docs/bad_inputs.md"), Path("docs/faults.md"), Path("CHANGELOG.md"), Path("LOG.md")}
"""Pages that quote what users typed or how things once were."""
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
RECIPE = ROOT / "configs/image/sd15_lora_seppo.yaml"


def blocks(page: Path, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [link.partition("#")[0] for link in LINK.findall(prose) if not link.startswith(("http", "#"))]
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


def test_every_page_is_in_the_index():
    linked = set(LINK.findall((ROOT / "docs/index.md").read_text(encoding="utf-8")))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages - linked == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED and blocks(page, "yaml")], ids=str)
def test_configs_of_a_page_load(page, tmp_path):
    for number, block in enumerate(blocks(page, "yaml")):
        # what is not a whole config is merged into a recipe
        content = yaml.safe_load(block)
        whole = content if "run" in content else yaml.safe_load(RECIPE.read_text(encoding="utf-8")) | content
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(whole), encoding="utf-8")
        assert load_config(path, ImageConfig).run


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED and blocks(page, "bash")], ids=str)
def test_commands_of_a_page_parse(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    whole = [block for block in blocks(page, "yaml") if "run:" in block]
    (tmp_path / "mine.yaml").write_text(whole[0] if whole else RECIPE.read_text(encoding="utf-8"), encoding="utf-8")
    for line in shell_lines((ROOT / page).read_text(encoding="utf-8")):
        told = re.sub(r"\bCONFIG(\.yaml)?\b", "mine.yaml", line)
        if (found := command_line(told)) is not None:
            program, arguments = found
            if arguments[0] not in cli.REQUESTS:
                # which have no options of a config
                assert arguments[0] in {*cli.COMMANDS, "--help"}, line
                continue
            assert cli.parse(arguments, program, SCHEMAS[program]) is not None or "--help" in arguments, line
        elif "-m benchmarks" in told:
            words = shlex.split(told.partition("#")[0])
            assert words[words.index("benchmarks") + 1] in COMMANDS, line


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED and blocks(page, "python")], ids=str)
def test_names_that_python_of_a_page_imports_are_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_memory_in_the_readme_is_that_of_the_recipes():
    """Whose headers the tests of `plan` hold against it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"\[([\d.]+) GiB\]\((configs/\S+\.yaml)\)", text)
    assert len(found) > 10
    assert [(planned(ROOT / recipe).train, recipe) for _, recipe in found] == [(float(gib), at) for gib, at in found]

"""Commands, YAML, Python and links of the documentation fit the product as it is.

The rules: a `bash` block holds commands, and those of ours are parsed by the real command line; a `yaml` block is a
config of its own or a part of a recipe, and is loaded; of a `python` block all imports are made, and
tests/test_readme.py runs those of README.md and docs/python.md. A block of another language is output or a file.
"""

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

import benchmarks.evaluation.cli as quality
import benchmarks.evaluation.human.main as people
from benchmarks.__main__ import COMMANDS
from seppo_core.cli import main as cli
from seppo_core.cli.recipes import planned
from seppo_core.config.loader import load_config
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig
from tests.config.test_configs import SCHEMAS, command_line, shell_lines
from tests.docs.pages import PAGES, RECIPE, ROOT, blocks, pages_with, text_of, whole_config

LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```|`[^`]*`", "", text_of(page), flags=re.DOTALL)
    targets = [link.partition("#")[0] for link in LINK.findall(prose) if not link.startswith(("http", "#"))]
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


def test_every_page_is_in_the_index():
    linked = set(LINK.findall(text_of(Path("docs/index.md"))))
    pages = {path.relative_to("docs").as_posix() for path in PAGES if path.parts[0] == "docs"} - {"index.md"}
    assert pages - {link.partition("#")[0] for link in linked} == set()


@pytest.mark.parametrize("page", pages_with("yaml"), ids=str)
def test_configs_of_a_page_load(page, tmp_path):
    for number, block in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        content = whole_config(block)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        assert load_config(path, VideoConfig if "frames" in content["data"] else ImageConfig).run


@pytest.mark.parametrize("page", pages_with("bash"), ids=str)
def test_commands_of_a_page_parse(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    # what `init toy` writes
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/toy.yaml").write_text((ROOT / "configs/toy/image_init.yaml").read_text(encoding="utf-8"))
    whole = [block for block in blocks(page, "yaml") if "run:" in block]
    (tmp_path / "mine.yaml").write_text(
        whole[0] if whole else (ROOT / RECIPE).read_text(encoding="utf-8"), encoding="utf-8"
    )
    for line in shell_lines(text_of(page)):
        told = re.sub(r"\bCONFIG(\.yaml)?\b", "mine.yaml", line)
        words = shlex.split(told, comments=True)
        if (found := command_line(told)) is not None:
            program, arguments = found
            if arguments[0] not in cli.REQUESTS:
                # which have no options of a config
                assert arguments[0] in {*cli.COMMANDS, "--help", "--version"}, line
                continue
            assert cli.parse(arguments, program, SCHEMAS[program]) is not None or "--help" in arguments, line
        elif words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= TARGETS, line
        elif words[1:2] == ["-m"] and words[2] == "benchmarks":
            assert words[3] in COMMANDS, line
            _parse_benchmark(words[3], words[4:], monkeypatch)
        elif words[1:2] == ["-m"] and words[2].startswith(("seppo", "tests", "tools")):
            assert importlib.util.find_spec(words[2]) is not None, line


def _parse_benchmark(name: str, arguments: list[str], monkeypatch) -> None:
    """With the command's own parser, which ends the test if it does not take them."""
    if name == "quality":
        command = arguments[0] if arguments[0] in quality.COMMANDS else "run"
        asked = quality.parser(command).parse_args(arguments[arguments[0] == command :])
        assert (asked.protocol or asked.named) in {"smoke", *quality.PROTOCOLS}
    elif name == "ab":
        for work in ("_make", "_count"):
            monkeypatch.setattr(people, work, lambda asked: 0)
        assert people.main(arguments) == 0


@pytest.mark.parametrize("page", pages_with("python"), ids=str)
def test_names_that_python_of_a_page_imports_are_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_memory_in_the_readme_is_that_of_the_recipes():
    """Whose headers the tests of `plan` hold against it."""
    found = re.findall(r"\[([\d.]+) GiB\]\((configs/\S+\.yaml)\)", text_of(Path("README.md")))
    assert len(found) > 10
    assert [(planned(ROOT / recipe).train, recipe) for _, recipe in found] == [(float(gib), at) for gib, at in found]

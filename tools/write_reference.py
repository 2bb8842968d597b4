"""Writes docs/reference: the config's keys, the commands' options and the public names, from their docstrings.

python -m tools.write_reference

Imports no torch: of the packages' names it reads the source.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from functools import cache
from importlib.util import find_spec
from inspect import cleandoc, getmodule
from pathlib import Path
from typing import get_type_hints

from seppo_core.cli.main import COMMANDS, REQUESTS, USAGES
from seppo_core.config.messages import describe
from seppo_core.config.method import MethodConfig, ReferenceSamplesConfig
from seppo_core.config.monitoring import HealthConfig, LogConfig
from seppo_core.config.options import CompareRequest
from seppo_core.config.schema import Config, TuneConfig
from seppo_core.config.training import LoopConfig, OptimizerConfig, PreviewConfig
from seppo_image.config import ImageData, ImageModel
from seppo_video.config import VideoData, VideoModel

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
WRITTEN = "`python -m tools.write_reference` writes this page from the code's docstrings."
PACKAGES = ("seppo_core", "seppo_image", "seppo_video", "seppo_core.judging")
SECTIONS = {
    "reference_samples": ReferenceSamplesConfig,
    "tune": TuneConfig,
    "loop": LoopConfig,
    "optimizer": OptimizerConfig,
    "preview": PreviewConfig,
    "health": HealthConfig,
    "log": LogConfig,
}
KEYS = "| Key | Type | Default | Meaning |\n|---|---|---|---|\n"


def config_page() -> str:
    """All keys by section; those of a family or method under its name."""
    top = [one for one in fields(Config) if one.name in ("run", "seed", "draws")]
    parts = [
        "# Config keys\n",
        "`seppo-image train CONFIG.yaml --help` prints them with that file's values; every key can be set on the "
        f"command line as `--section.key value`. {WRITTEN}\n",
        "## At the top\n",
        KEYS + "".join(_row(Config, one) for one in top),
        "## data\n",
        KEYS + "".join(_row(ImageData, one) for one in fields(ImageData)),
        "For clips, of `seppo-video`, also:\n",
        KEYS + "".join(_row(VideoData, one) for one in _own(VideoData, ImageData)),
        *_variants("model", ImageModel, "family"),
        *_variants("model", VideoModel, "family", " of clips"),
        *_variants("method", MethodConfig, "name"),
    ]
    for name, section in SECTIONS.items():
        parts += [f"## {name}\n", f"{_text(section.__doc__)}\n", KEYS + "".join(map(_row_of(section), fields(section)))]
    return "\n".join(parts)


def _variants(section: str, base: type, chosen_by: str, of: str = "") -> Iterator[str]:
    """The keys that all alternatives share, then those of each."""
    yield f"## {section}{of}\n"
    yield KEYS + "".join(map(_row_of(base), fields(base)))
    for name, variant in base.variants().items():
        own = _own(variant, base)
        yield f"### {section}.{chosen_by}: {name}\n"
        yield f"{_text(variant.__doc__)}\n"
        if own:
            yield KEYS + "".join(map(_row_of(variant), own))


def _own(variant: type, base: type) -> list[Field]:
    """The fields that `base` has not, or has with another default."""
    known = {one.name: one for one in fields(base)}
    chosen = getattr(variant, "chosen_by", None)
    return [
        one
        for one in fields(variant)
        if one.name != chosen and (one.name not in known or known[one.name].default != one.default)
    ]


def _row_of(owner: type):
    return lambda one: _row(owner, one)


def _row(owner: type, one: Field, prefix: str = "") -> str:
    default = "needed" if one.default is MISSING else f"`{_yaml(one.default)}`"
    kind = describe(get_type_hints(owner)[one.name])
    return f"| `{prefix}{one.name}` | {_cell(kind)} | {default} | {_cell(_text(_doc_of(owner, one.name)))} |\n"


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def commands_page() -> str:
    """The commands, and the options of each beside the config's keys."""
    parts = [
        "# Commands\n",
        "`seppo-image COMMAND …` for pictures, `seppo-video COMMAND …` for clips. A command that "
        f"takes a config takes every key of it as an option, too: [Config keys](config.md). {WRITTEN}\n",
    ]
    for name, told in COMMANDS.items():
        request = CompareRequest if name == "compare" else REQUESTS.get(name)
        usage = USAGES.get(name, "compare RUN RUN [OPTIONS]" if name == "compare" else f"{name} CONFIG.yaml [OPTIONS]")
        usage = usage.replace("{program}", "seppo-image")
        parts += [f"## {name}\n", f"{_text(told[0].upper() + told[1:])}.\n", f"```text\nseppo-image {usage}\n```\n"]
        if request is not None:
            rows = "".join(_row(request, one, "--") for one in fields(request))
            parts.append("| Option | Type | Default | Meaning |\n|---|---|---|---|\n" + rows)
    return "\n".join(parts)


def package_page(package: str) -> str:
    """The public names of a package, by the module that they are in."""
    stub = _source(package).with_suffix(".pyi")
    parts = [
        f"# {package}\n",
        f"The names that `from {package} import …` gives. {WRITTEN}\n",
    ]
    module = None
    for line in ast.parse(stub.read_text(encoding="utf-8")).body:
        if not isinstance(line, ast.ImportFrom):
            continue
        if line.module != module:
            module = line.module
            tree = _tree(module)
            parts += [f"## {module}\n", f"{_text(ast.get_docstring(tree))}\n"]
        for alias in line.names:
            parts += _named(module, alias.name)
    return "\n".join(parts)


def _named(module: str, name: str) -> Iterator[str]:
    tree = _tree(module)
    for one in tree.body:
        if isinstance(one, ast.ImportFrom) and name in [alias.name for alias in one.names]:
            yield from _named(one.module, name)
            return
    node = next((one for one in tree.body if getattr(one, "name", None) == name), None)
    yield f"### {name}\n"
    if isinstance(node, ast.FunctionDef):
        # as it stands in the source, which is formatted, as the code of these pages is
        lines = _source(module).read_text(encoding="utf-8").splitlines()[node.lineno - 1 : node.body[0].lineno - 1]
        head = "\n".join(lines)
        if len(lines) == 1 and len(head) > 116:
            # as it would be formatted with its dots
            head = re.sub(r"\((.*)\) -> ", r"(\n    \1\n) -> ", head)
        yield f"```python\n{head} ...\n```\n\n{_text(ast.get_docstring(node))}\n"
    elif isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        yield f"```python\nclass {name}{f'({bases})' if bases else ''}: ...\n```\n\n{_text(ast.get_docstring(node))}\n"
        yield from _members(node)
    else:
        place = next(i for i, one in enumerate(tree.body) if name in _targets(one))
        told = ast.get_source_segment(_source(module).read_text(encoding="utf-8"), tree.body[place])
        yield f"```python\n{told}\n```\n\n{_text(_string_after(tree.body, place))}\n"


def _members(node: ast.ClassDef) -> Iterator[str]:
    for place, one in enumerate(node.body):
        if isinstance(one, ast.FunctionDef) and (told := ast.get_docstring(one)) and not one.name.startswith("_"):
            yield f"- `{_signature(one).removesuffix(': ...').removeprefix('def ')}`: {_cell(_text(told))}"
        elif isinstance(one, ast.FunctionDef) and one.name == "__init__":
            yield f"- `{_signature(one).removesuffix(': ...').removeprefix('def ')}`"
        elif isinstance(one, ast.AnnAssign) and not ast.unparse(one.target).startswith("_"):
            told = _string_after(node.body, place)
            yield f"- `{ast.unparse(one)}`{f': {_cell(_text(told))}' if told else ''}"
    yield ""


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){returns}: ..."


def _targets(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets]
    return [ast.unparse(node.target)] if isinstance(node, ast.AnnAssign) else []


def _string_after(body: list[ast.stmt], place: int) -> str | None:
    """The docstring under an assignment."""
    behind = body[place + 1] if place + 1 < len(body) else None
    is_text = (
        isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant) and isinstance(behind.value.value, str)
    )
    return behind.value.value if is_text else None


def _doc_of(owner: type, name: str) -> str | None:
    """What stands under a field, in the first class of the line of inheritance that says something."""
    for kind in owner.__mro__:
        module = getmodule(kind)
        if module is None or not module.__name__.startswith("seppo"):
            continue
        for node in ast.walk(_tree(module.__name__)):
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
                for place, one in enumerate(node.body):
                    if isinstance(one, ast.AnnAssign) and ast.unparse(one.target) == name:
                        if (told := _string_after(node.body, place)) is not None:
                            return told
    return None


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module).read_text(encoding="utf-8"))


def _source(module: str) -> Path:
    # a package's parent is imported by this, and holds no torch
    return Path(find_spec(module).origin)


def _text(told: str | None) -> str:
    """A docstring as Markdown: what is indented as it stands, elsewhere what would be markup escaped."""
    return "\n\n".join(map(_paragraph, cleandoc(told or "").split("\n\n")))


def _paragraph(text: str) -> str:
    if any(line.startswith("    ") for line in text.splitlines()):
        return f"```text\n{text}\n```"
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([*<\[\]])", r"\\\1", piece) for piece in pieces)


def _cell(text: str) -> str:
    return " ".join(text.replace("```text", "").replace("```", "").replace("|", r"\|").split())


def pages() -> dict[Path, str]:
    """All pages by their file."""
    written = {"config": config_page(), "commands": commands_page()} | {name: package_page(name) for name in PACKAGES}
    return {FOLDER / f"{name}.md": re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n" for name, text in written.items()}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""The pages of the documentation and their fenced blocks."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/reference").glob("*.md")]
)
QUOTING = {
    Path("docs/bad_inputs.md"),
    Path("docs/troubleshooting.md"),
    Path("docs/faults.md"),
    Path("CHANGELOG.md"),
    Path("LOG.md"),
}
"""Pages that quote what users typed or how things once were."""
RECIPE = "configs/image/sd15_lora_seppo.yaml"
"""What a part of a config is put into, unless its first line says `# into PATH`."""


def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if page not in QUOTING and blocks(page, language)]


def whole_config(block: str) -> dict:
    """A block that names `run` as it stands; another one merged into a recipe, key by key."""
    content = yaml.safe_load(block)
    if "run" in content:
        return content
    named = re.match(r"# into (\S+)\n", block)
    recipe = yaml.safe_load((ROOT / (named[1] if named else RECIPE)).read_text(encoding="utf-8"))
    if "name" in content.get("method", {}):
        # another method's line stands in place of the recipe's
        recipe.pop("method", None)
    return _merged(recipe, content)


def files_of(page: Path) -> dict[str, str]:
    """The files that a page shows: a block after a line with nothing but a path in backticks and a colon."""
    return dict(re.findall(r"^`([^`\n]+)`:\n\n```\w*\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL))


def _merged(under: dict, over: dict) -> dict:
    both = {
        key: _merged(under[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(under.get(key), dict)
    }
    return under | over | both

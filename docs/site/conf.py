"""Sphinx's settings for the site that `make docs` builds: docs/*.md as they are, and the files beside README.md.

The source folder is the checkout, so that a link such as ../configs/image/sd15_lora_seppo.yaml works on a code host and
on the site alike. The table of contents is put together here, since a code host would show a directive as text.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

project = "SePPO"
author = "The SePPO authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "docs/index"
language = "en"
# the least sure of finding every file is to name what is read; walking .venv or runs would take minutes
_read = {"docs", "configs", "CONTRIBUTING.md", "CHANGELOG.md", "LOG.md", "CITATION.cff", "LICENSE"}
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in _read] + ["docs/site"]

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
myst_links_external_new_tab = False
suppress_warnings: list[str] = []
nitpicky = True
# messages are quoted as they are: no curly quotation marks, no long dashes
smartquotes = False

html_theme = "furo"
html_title = "SePPO"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
html_extra_path = ["start"]

CONTENTS = {
    "Begin": ["install", "quickstart", "quickstart_clips", "data"],
    "Train": [
        "methods",
        "which_method",
        "watching",
        "stop_and_resume",
        "memory",
        "cost",
        "several_processes",
        "python",
    ],
    "Use": ["using_the_result", "families", "evaluation", "judges"],
    "Background": ["paper", "coming_from"],
    "Reference": [
        *("reference/config", "reference/commands", "reference/seppo_image", "reference/seppo_video"),
        *("reference/seppo_core", "reference/seppo_core.judging"),
    ],
    "When it goes wrong": ["troubleshooting", "bad_inputs", "faults"],
    "Develop": ["/CONTRIBUTING", "parity", "full_size", "test_times", "/CHANGELOG", "/LOG"],
}
"""The pages in the order of the side bar."""


def add_contents(app, name: str, source: list[str]) -> None:
    """Puts the table of contents at the end of the first page."""
    if name == root_doc:
        for caption, pages in CONTENTS.items():
            listed = "\n".join(pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def setup(app) -> None:
    app.connect("source-read", add_contents)

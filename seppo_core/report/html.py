"""HTML that is escaped unless it was built here: prompts and file names are untrusted text.

Whole pages and tables are jinja2 templates; `element` builds what is drawn by numbers, such as SVG.
"""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup as Html
from markupsafe import escape

Child = Html | str | int | float | None
TEMPLATES = Path(__file__).parent / "templates"
VOID = {"br", "hr", "img", "input", "line", "meta", "path", "rect", "circle", "polyline", "polygon"}


def render(template: Path, **values: object) -> Html:
    """Fills a jinja2 template; every value is escaped unless it is Html. UndefinedError for a value that is missing."""
    return Html(_environment(template.parent).get_template(template.name).render(values))


@cache
def _environment(folder: Path) -> Environment:
    """It keeps its templates, which take longer to compile than to fill."""
    loader = FileSystemLoader([folder, TEMPLATES])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def element(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """An HTML or SVG element. Text children and attribute values are escaped; None children are left out.

    `class_` writes class; an underscore inside a name is a hyphen (data_sort, stroke_width); True writes a bare
    attribute, None and False none at all.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        if children:
            raise ValueError(f"<{name}> takes no children, got {len(children)}")
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Children after one another; each is escaped unless it is Html."""
    return Html("").join(child for child in children if child is not None)


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'

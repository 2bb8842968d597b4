"""HTML that is escaped unless it was built here: prompts and file names are untrusted text."""

from html import escape


class Html(str):
    """Markup that is safe as it stands. Everything else that enters an element is text, and is escaped."""

    __slots__ = ()


Child = Html | str | int | float | None
VOID = {"br", "hr", "img", "input", "line", "meta", "path", "rect", "circle", "polyline", "polygon"}


def text(value: object) -> Html:
    """`value` as text in a page: <, >, & and quotes are written as entities."""
    return Html(escape(str(value), quote=True))


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
    """Children after one another, each text unless it is Html."""
    return Html("".join(c if isinstance(c, Html) else text(c) for c in children if c is not None))


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(value)}"'

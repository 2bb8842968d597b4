"""One HTML file with everything in it: style, script, charts and pictures. Nothing is loaded from anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seppo_core.io.atomic import save_text
from seppo_core.report.html import Child, Html, element, join

HERE = Path(__file__).parent
# Should a mistake of ours ever let markup through, the browser still loads and runs nothing but what is written here.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading that the contents list names."""

    heading: str
    body: Sequence[Child]

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.heading.lower())


def page(title: str, lead: str, sections: Sequence[Section]) -> Html:
    """The whole document."""
    contents = [element("a", s.heading, href=f"#{s.anchor}") for s in sections]
    parts = [element("section", element("h2", s.heading), *s.body, id=s.anchor) for s in sections]
    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html((HERE / "style.css").read_text(encoding="utf-8"))),
    )
    body = join(
        element("header", element("h1", title), element("p", lead, class_="lead"), element("nav", *contents)),
        element("main", *parts),
        element("script", Html((HERE / "script.js").read_text(encoding="utf-8"))),
    )
    return Html(f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n')


def save_page(path: Path, document: Html) -> None:
    """Writes the page whole or not at all."""
    save_text(path, document)


def notes(heading: str, items: Sequence[Child]) -> Html:
    """A box that says what to look at."""
    return element("aside", element("h3", heading), element("ul", *(element("li", item) for item in items)))


def row_of(*parts: Child) -> Html:
    """Charts side by side where the window is wide enough."""
    return element("div", *parts, class_="row")


def facts(pairs: Sequence[tuple[str, Child]]) -> Html:
    """Names and values: provenance and settings."""
    parts = [part for name, value in pairs for part in (element("dt", name), element("dd", value))]
    return element("dl", *parts)

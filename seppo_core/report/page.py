"""One HTML file with everything in it: style, script, charts and pictures. Nothing is loaded from anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seppo_core.io.atomic import save_text
from seppo_core.report.html import TEMPLATES, Child, Html, element, render

HERE = Path(__file__).parent
# Should a mistake of ours ever let markup through, the browser still loads and runs nothing but what is written here.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# 'self' is not all of file: in every browser
WITH_FILES = POLICY.replace("img-src data:", "img-src 'self' file: data:")
"""For a page that shows files beside it."""


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading that the contents list names."""

    heading: str
    body: Sequence[Child]

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.heading.lower())


def page(title: str, lead: str, sections: Sequence[Section], refresh: int | None = None) -> Html:
    """The whole document. `refresh` is the number of seconds after which a browser loads it anew."""
    values = {"title": title, "lead": lead, "sections": sections, "refresh": refresh}
    return document(TEMPLATES / "page.html", [], "script.js", **values)


def page_with_files(title: str, lead: str, sections: Sequence[Section], refresh: int | None = None) -> Html:
    """A document that shows files beside it, and loads itself anew every `refresh` seconds."""
    values = {"title": title, "lead": lead, "sections": sections, "refresh": refresh, "policy": WITH_FILES}
    return document(TEMPLATES / "page.html", [HERE / "files.css"], "script.js", **values)


def document(
    template: Path, styles: Sequence[Path], script: str | Path, *, policy: str = POLICY, **values: object
) -> Html:
    """Fills a template that extends page.html; the report's style comes before `styles`."""
    text = [Html(path.read_text(encoding="utf-8")) for path in (HERE / "style.css", *styles, HERE / script)]
    return render(template, policy=policy, styles=text[:-1], script=text[-1], **values)


def save_page(path: Path, page: Html) -> None:
    """Writes the page whole or not at all."""
    save_text(path, page)


def notes(heading: str, items: Sequence[Child]) -> Html:
    """A box that says what to look at."""
    return element("aside", element("h3", heading), element("ul", *(element("li", item) for item in items)))


def row_of(*parts: Child) -> Html:
    """Charts side by side if the window is wide enough."""
    return element("div", *parts, class_="row")


def facts(pairs: Sequence[tuple[str, Child]]) -> Html:
    """Names and values: provenance and settings."""
    parts = [part for name, value in pairs for part in (element("dt", name), element("dd", value))]
    return element("dl", *parts)

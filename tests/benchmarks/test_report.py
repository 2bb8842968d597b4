"""The page's parts: nothing untrusted gets through as markup, and what is drawn is where the numbers say."""

import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seppo_core.report.chart import HEIGHT, LEFT, RIGHT, WIDTH, Frame, Line, line_chart, smoothed, ticks
from seppo_core.report.grid import GridRow, sample_grid
from seppo_core.report.html import Html, element, join
from seppo_core.report.media import clip, picture, png_uri
from seppo_core.report.page import Section, page, save_page
from seppo_core.report.provenance import provenance, provenance_block
from seppo_core.report.statistics import Interval
from seppo_core.report.table import Cell, Row, axis_of, interval_bar, interval_cell, number, table

ATTACK = '<script>alert(1)</script>" onload="x" \'&'


class Tags(HTMLParser):
    """Collects the tags and attributes that a browser would see."""

    def __init__(self, document: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def drawing(frames: int | None = None) -> np.ndarray:
    shape = (4, 6, 3) if frames is None else (frames, 4, 6, 3)
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)


def test_elements_by_hand():
    assert element("p", "a < b", class_="x", data_sort=1.5) == '<p class="x" data-sort="1.5">a &lt; b</p>'
    assert element("input", type="range", hidden=True, value=None) == '<input type="range" hidden/>'
    assert join("<", Html("<b>"), None, 3) == "&lt;<b>3"
    with pytest.raises(ValueError, match="no children"):
        element("br", "x")


@given(st.text())
@settings(deadline=None)
def test_any_text_comes_back_as_text_and_makes_no_tag(words):
    tags = Tags(element("p", words, title=words))
    assert [name for name, _ in tags.found] == ["p"]
    # a browser reads a carriage return in markup as a line feed
    assert "".join(tags.words) == words or "\r" in words
    assert "<" not in join(words) and '"' not in join(words)


def every_part(words: str) -> Html:
    """A page in which `words` stands everywhere that a prompt or a file name can."""
    rows = [Row([Cell(words), number(1), interval_cell(Interval(0.5, 0.4, 0.6))], series=1)]
    grid = sample_grid([(words, 1)], [GridRow(words, [drawing(2)[None]], [[0.5]])], words)
    chart = line_chart(
        words, [Line(words, 0, [(0, 1), (1, 2)], markers=True)], words, words, level=(words, 1), note=words
    )
    parts = [table([words, words, words], rows, words), grid, chart, provenance_block({words: words, "commit": words})]
    return page(words, words, [Section(words, parts)])


def test_untrusted_text_adds_no_tag_and_no_attribute():
    harmless, attacked = Tags(every_part("harmless")), Tags(every_part(ATTACK))
    shape = lambda tags: [(name, sorted(attributes)) for name, attributes in tags.found]  # noqa: E731
    assert shape(attacked) == shape(harmless)


def test_page_asks_for_nothing_outside_itself():
    document = every_part("a red circle")
    for name, attributes in Tags(document).found:
        for attribute in ("src", "href", "poster", "data", "action"):
            value = attributes.get(attribute)
            assert value is None or value.startswith(("data:", "#")), (name, attribute, value)
    outside = set(re.findall(r"https?://[^\"'\s<]+", document))
    assert outside == set()
    assert "@import" not in document and "url(data:" in document


def test_charts_are_well_formed_svg():
    chart = line_chart("t", [Line("a", 0, [(0, 1), (5, 3)], low=[0.5, 2], high=[1.5, 4], markers=True)], "x", "y")
    svg = re.search(r"<svg.*</svg>", chart, re.DOTALL).group()
    ElementTree.fromstring(svg)
    assert "polygon" in svg and svg.count("<circle") == 2


def test_frame_maps_corners_to_corners():
    frame = Frame(0, 10, -1, 1)
    assert frame.x(0) == LEFT and frame.x(10) == WIDTH - RIGHT
    assert frame.y(-1) > frame.y(0) > frame.y(1) >= 0
    assert frame.y(-1) < HEIGHT
    assert frame.y(0) == pytest.approx((frame.y(-1) + frame.y(1)) / 2)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
@settings(deadline=None)
def test_ticks_are_few_even_and_inside(low, extent):
    found = ticks(low, low + extent)
    assert 2 <= len(found) <= 12
    assert low - 1e-6 * extent <= found[0] and found[-1] <= low + extent * (1 + 1e-6)
    steps = np.diff(found)
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)


def test_ticks_by_hand():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-7, 180) == [0, 50, 100, 150]


def test_smoothing_is_a_trailing_mean():
    assert smoothed([(0, 2), (1, 4), (2, 6), (3, 8)], 2) == [(0, 2), (1, 3), (2, 5), (3, 7)]


def test_chart_without_points_says_so():
    assert "no data" in line_chart("empty", [Line("a", 0, [])], "x", "y")
    assert "NaN" not in line_chart("flat", [Line("a", 0, [(3, 0.5)])], "x", "y")


def test_pictures_come_back_pixel_by_pixel():
    uri = png_uri(drawing())
    stored = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert (np.asarray(stored) == drawing()).all()
    attributes = Tags(picture(drawing(), "alt", 60)).named("img")[0]
    assert (attributes["width"], attributes["height"], attributes["class"]) == ("60", "40", "pixels")
    with pytest.raises(ValueError, match="float32"):
        png_uri(drawing().astype(np.float32))


def test_a_clip_is_its_frames_side_by_side():
    style = Tags(clip(drawing(5), "alt", 60, fps=10)).named("div")[0]["style"]
    uri = re.search(r"url\(data:image/png;base64,([^)]*)\)", style).group(1)
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
    assert (strip == np.concatenate(list(drawing(5)), axis=1)).all()
    assert "--frames:5" in style and "--run:-300px" in style and "--time:0.5s" in style


def test_cells_sort_by_their_full_value():
    document = table(["arm", "score"], [Row([Cell("b"), number(0.12345)]), Row([Cell("a"), number(0.12346)])], "c")
    assert [a["data-sort"] for a in Tags(document).named("td")] == ["b", "0.12345", "a", "0.12346"]


def test_interval_bars_share_an_axis():
    first, second = Interval(0.5, 0.4, 0.6), Interval(0.7, 0.65, 0.8)
    low, high = axis_of([first, second])
    assert low < 0.4 and high > 0.8
    dots = [float(Tags(interval_bar(i, low, high, 0).shown).named("circle")[0]["cx"]) for i in (first, second)]
    assert dots[0] < dots[1]


def test_provenance_names_commit_hardware_and_command():
    found = provenance()
    assert found["cores"] >= 1 and found["processor"] and found["torch"] and found["started"]
    assert "command" in found and "commit" in found


def test_page_is_written_whole(tmp_path):
    save_page(tmp_path / "deep" / "index.html", page("t", "l", [Section("One & two", ["x"])]))
    document = (tmp_path / "deep" / "index.html").read_text(encoding="utf-8")
    assert document.startswith("<!doctype html>") and document.rstrip().endswith("</html>")
    anchors = [a["href"] for a in Tags(document).named("a")]
    assert anchors == ["#one---two"] and Tags(document).named("section")[0]["id"] == "one---two"

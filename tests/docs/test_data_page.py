"""Every example of docs/data.md, word for word: its files are made, its config opens them, and what is read is what the
page says is read."""

import json
import re
import shlex
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import seppo_core.data.open_records as opening
from seppo_core.config.loader import load_config
from seppo_core.data.hub import streamed
from seppo_core.data.media import MediaSource
from seppo_core.data.open import open_source
from seppo_core.data.source import BadItem
from seppo_image.config import ImageConfig
from seppo_image.data import Pictures
from seppo_video.config import VideoConfig
from seppo_video.data import Clips
from tests.docs.pages import ROOT, text_of, whole_config

SECTIONS = {
    text.splitlines()[0]: text
    for text in re.split(r"^## ", text_of(Path("docs/data.md")), flags=re.MULTILINE)[1:]
    if "Read as:" in text
}
SIDE = 48
DAMAGE = {"(a text": b"hello", "(0 bytes)": b""}


def fenced(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def picture(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def clip(path: Path, frames: int) -> None:
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(8))
        stream.width = stream.height = SIDE
        for number in range(frames):
            pixels = np.full((SIDE, SIDE, 3), number * 10 % 256, dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))


def make(path: Path, told: str) -> None:
    """One file of a tree; what stands behind its name is its text, or in brackets what is wrong with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    damage = [content for start, content in DAMAGE.items() if told.startswith(start)]
    if damage:
        path.write_bytes(damage[0])
    elif path.suffix == ".mp4":
        clip(path, 8 if path.stem == "short" else 40)
    elif path.suffix in (".png", ".jpg", ".webp"):
        picture(path)
        if told == "(cut off in the middle)":
            path.write_bytes(path.read_bytes()[:2000])
    else:
        path.write_text(told.replace("\\n", "\n"), encoding="utf-8")


def lay_out(section: str) -> None:
    for tree in fenced(section, "text"):
        folder, *files = tree.splitlines()
        if folder.endswith("/"):
            for line in files:
                name, _, told = line.strip().partition(" ")
                make(Path(folder, name), told.strip())
    for name, content in re.findall(r"^`([^`\n]+)`:\n\n```\w*\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")
    for code in fenced(section, "python"):
        exec(compile(code, "docs/data.md", "exec"), {})
    for line in "".join(fenced(section, "bash")).splitlines():
        subprocess.run(shlex.split(line), check=True)


def opened(block: str) -> MediaSource:
    content = whole_config(block)
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    clips = "frames" in content["data"]
    data = load_config(Path("config.yaml"), VideoConfig if clips else ImageConfig).data
    decoder = Clips(8, 8, data.frames, sampling=data.sampling) if clips else Pictures(8, 8)
    return open_source(data, decoder, 0)


def read(source: MediaSource) -> list[dict]:
    """As the page writes what is read."""
    lines = []
    for position in range(len(source)):
        try:
            item = source.item(position)
        except BadItem as bad:
            lines.append({"file": bad.file, "reason": bad.reason})
            continue
        line = {"file": item.file, "captions": [item.caption, *item.more]}
        if "loser" in item.views:
            line["loser"] = source.records.record(position).loser.name
        lines.append(line | ({} if item.label is None else {"label": item.label}))
    return lines


@pytest.fixture
def the_hub(monkeypatch):
    """One parquet file at `owner/name`, revision v1, in memory."""
    memory = pytest.importorskip("fsspec.implementations.memory")
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    class Rootless(memory.MemoryFileSystem):
        """Paths as the hub's own has them, without the leading slash."""

        store, pseudo_dirs, cachable = {}, [""], False

        def find(self, path, **options):
            return [found.lstrip("/") for found in super().find(path, **options)]

    remote = Rootless()
    picture(Path("hub.png"))
    table = pa.Table.from_pylist([{"image": Path("hub.png").read_bytes(), "caption": "a red house"}])
    with remote.open("datasets/owner/name@v1/data/train-00000-of-00001.parquet", "wb") as file:
        pq.write_table(table, file)
    monkeypatch.setattr(opening, "streamed", lambda *told: streamed(*told, remote))


@pytest.mark.parametrize("name", SECTIONS)
def test_an_example_is_read_as_the_page_says(name, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    section = SECTIONS[name]
    if name == "Parquet":
        pytest.importorskip("pyarrow")
    if name == "The Hugging Face Hub":
        request.getfixturevalue("the_hub")
    lay_out(section)
    (config,) = fenced(section, "yaml")
    after = section.partition("Read as:")[2]
    told = [json.loads(line) for block in fenced(after, "json") for line in block.splitlines()]
    assert read(opened(config)) == told


def test_every_kind_of_source_has_an_example():
    assert len(SECTIONS) == 12

"""One life of the small run: its folder, its commands, and what can be seen of it from outside."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.demo.plan import ROOT
from benchmarks.experiments.toy.task.bases import image_base
from seppo_core.run.history import read_events

IMAGES = 24
COMMANDS = ("prepare", "train", "export")
CONFIG = """\
run: {life}/run
model: {{base: {base}}}
data: {{source: {source}, cache: {life}/cache, height: 16, width: 16, encode_batch_size: 4}}
method: {{name: seppo, beta: 20}}
reference_samples: {{scheduler: ddim, steps: 6, guidance_scale: 1, batch_size: 8}}
loop: {{iterations: 4, updates: 5, batch_size: 8, micro_batch_size: 4, checkpoint_every: 2}}
optimizer: {{lr: 1.0e-3, schedule: linear, warmup_updates: 2}}
"""
"""20 updates, checkpoints after 2, 4, 5, 6, …, four references of 40 samples each."""


@dataclass(frozen=True)
class Life:
    """One run from preparation to export, in a folder of its own."""

    folder: Path
    source: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def export(self) -> Path:
        return self.folder / "exported"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def write(self) -> None:
        """Makes the folder, with the config in it."""
        self.folder.mkdir(parents=True)
        text = CONFIG.format(life=self.folder, base=image_base().relative_to(ROOT), source=self.source)
        self.config.write_text(text, encoding="utf-8")

    def command(self, name: str) -> tuple[str, ...]:
        """The very same words every time: what a user types again after a kill."""
        options = ("--out", str(self.export)) if name == "export" else ()
        return ("-m", "seppo_image", name, str(self.config), *options)

    def half_written(self) -> list[str]:
        """Temporary files and folders that lie about now."""
        found = [path for path in self.folder.rglob(".*.tmp") if not any(p.suffix == ".tmp" for p in path.parents)]
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def updates(self) -> int:
        """Whole lines of metrics."""
        path = self.run / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def encoded(self) -> set[tuple[str, int]]:
        """Files of the cache as they stand, by name and time."""
        found = set()
        for name in _names(self.cache, "**/*"):
            with suppress(FileNotFoundError):
                found.add((name, Path(name).stat().st_mtime_ns))
        return found

    def starts(self) -> int:
        """How often training has begun."""
        return sum(event["event"] == "started" for event in read_events(self.run))

    def samples(self) -> set[str]:
        """Files of reference samples that lie in the buffer."""
        return set(_names(self.run / "buffer", "iteration-*/samples-*.safetensors"))

    def writing(self, folder: Path) -> set[str]:
        """What in `folder` is being written, or was when a kill came: by its temporary name."""
        return set(_names(folder, ".*.tmp"))


def _names(folder: Path, pattern: str) -> list[str]:
    try:
        return [str(path) for path in folder.glob(pattern)]
    except FileNotFoundError:
        # the process that is watched removes folders too
        return []

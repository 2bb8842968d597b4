"""The folder of one evaluation: what is measured on what, written down before anything is drawn."""

import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.evaluation.lines import LineWriter, read_lines
from benchmarks.evaluation.models import ModelSpec, digest
from benchmarks.evaluation.prompt_files import import_prompts
from benchmarks.evaluation.prompts import Prompt, PromptSet
from benchmarks.evaluation.protocols import BUNDLED, PROTOCOLS, SETS, Protocol, label
from benchmarks.evaluation.shard import Shard
from benchmarks.evaluation.store import SampleStore, ScoreStore
from seppo_core.io.atomic import save_json

FORMAT = 1
VERSIONS = ("torch", "diffusers", "transformers", "peft")
"""Libraries whose versions may change samples."""
DRAW_REVISION = 1
"""Raised when a change here changes samples."""


@dataclass(frozen=True)
class ModelEntry:
    """One compared model, and the name of the folder of its samples in the cache."""

    name: str
    place: str
    fingerprint: str
    about: dict[str, object]


@dataclass(frozen=True)
class JudgeEntry:
    """One metric as it was used: its fingerprint, and how many prompts it did not read to the end."""

    metric: str
    fingerprint: str
    about: dict[str, object]
    truncated: int


@dataclass(frozen=True)
class Plan:
    """A protocol, a prompt set, and the models compared; the first is what the others are compared with."""

    protocol: Protocol
    prompts: PromptSet
    models: tuple[ModelEntry, ...]

    @property
    def label(self) -> str:
        limit = None if self.prompts.cut_from is None else len(self.prompts)
        return label(self.protocol, self.prompts.name, limit, self._of_the_set(whole=True))

    @property
    def fingerprint(self) -> str:
        """Rows with another one were measured in another way."""
        return digest([self.protocol.settings(), self.prompts.sha256])

    def published_prompts(self) -> bool | None:
        """Whether these are the prompts that were published; None if their hash is not known here."""
        return self._of_the_set(whole=False)

    def _of_the_set(self, whole: bool) -> bool | None:
        """As `published_prompts`; with `whole`, of the prompts before only the first of them were taken."""
        known, prompts = SETS.get(self.prompts.name), self.prompts
        if known is None:
            return None
        before = whole and prompts.cut_from is not None
        if known.rows != (prompts.cut_from if before else len(prompts)):
            return False
        published = known.texts_sha256
        if known.bundled is not None:
            published = import_prompts(BUNDLED / known.bundled).sha256
        found = prompts.whole_sha256 if before else prompts.sha256
        # plans of before do not know what the first prompts were taken from
        return None if published is None or not found else published == found


class PlanFolder:
    """Where plan, judges and reports of one evaluation lie. Samples and scores are in `cache`, which several share."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, self.cache = folder, cache

    @property
    def path(self) -> Path:
        return self.folder / "plan.json"

    def open(self, plan: Plan) -> Plan:
        """Writes the plan, or adds its models to the one that is there, and returns what is then there.

        ValueError if the folder belongs to another protocol or other prompts.
        """
        if self.path.exists():
            before = self.load()
            if before.fingerprint != plan.fingerprint or before.protocol.name != plan.protocol.name:
                raise ValueError(
                    f"{self.folder} holds {before.label} on {len(before.prompts)} prompts "
                    f"({before.prompts.sha256[:8]}), not {plan.label} on {len(plan.prompts)} "
                    f"({plan.prompts.sha256[:8]}); name another folder with --out"
                )
            given = {model.name: model for model in plan.models}
            kept = [given.pop(model.name, model) for model in before.models]
            plan = replace(plan, models=(*kept, *given.values()))
        save_json(self.path, {"format": FORMAT, "label": plan.label, **_plain(plan)})
        return plan

    def load(self) -> Plan:
        """The plan in the folder. FileNotFoundError if there is none, ValueError for another format."""
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.folder} holds no plan.json; `quality run` makes one")
        content = json.loads(self.path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"{self.path} has format {content['format']}, this version reads {FORMAT}")
        protocol = {name: _tuples(value) for name, value in content["protocol"].items()}
        prompts = content["prompts"]
        items = tuple(Prompt(**{**p, "categories": _tuples(p["categories"])}) for p in prompts.pop("prompts"))
        prompts |= {name: tuple(prompts.get(name, ())) for name in ("skipped", "notes")}
        models = tuple(ModelEntry(**model) for model in content["models"])
        return Plan(Protocol(**protocol), PromptSet(prompts=items, **prompts), models)

    def samples(self, model: ModelEntry) -> SampleStore:
        return SampleStore(self.cache / "samples" / model.fingerprint)

    def scores(self, judge: JudgeEntry) -> ScoreStore:
        return ScoreStore(self.cache / "scores", judge.metric, judge.fingerprint)

    def judges(self) -> list[JudgeEntry]:
        """The metrics that were used so far, in the order of the protocol, others after them."""
        files = sorted((self.folder / "judges").glob("*.json"))
        found = [JudgeEntry(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
        order = list(PROTOCOLS[self.load().protocol.name].metrics)
        return sorted(found, key=lambda j: (order.index(j.metric) if j.metric in order else len(order), j.metric))

    def note_judge(self, judge: JudgeEntry) -> None:
        slug = "".join(c if c.isalnum() or c in "._-" else "_" for c in judge.metric)
        save_json(self.folder / "judges" / f"{slug}.json", asdict(judge))

    def note(self, name: str, content: dict) -> None:
        """Keeps a fact of the run, e.g. how many prompts were seen in training, for the report."""
        save_json(self.folder / "notes" / f"{name}.json", content)

    def notes(self, name: str) -> dict:
        path = self.folder / "notes" / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def reference_writer(self, shard: Shard | None) -> LineWriter:
        return LineWriter(self.folder, "references", shard)

    def reference_lines(self) -> dict[str, dict]:
        """What was last found out of each prompt's real sample: `file` names the file's content, `sha256` its pixels,
        `reason` says why there are none."""
        lines = sorted(read_lines(self.folder, "references"), key=lambda line: line.get("at", 0))
        return {line["prompt"]: line for line in lines}

    def references(self) -> dict[str, str]:
        """Name of the pixels of the real sample by the key of its prompt."""
        return {key: line["sha256"] for key, line in self.reference_lines().items() if "sha256" in line}

    def unreadable_references(self) -> dict[str, str]:
        """Why a real sample that is there could not be read, by the key of its prompt."""
        return {key: line["reason"] for key, line in self.reference_lines().items() if "sha256" not in line}


def entry_of(
    spec: ModelSpec, identity: dict[str, object], protocol: Protocol, prompts: PromptSet, device: str, dtype: str
) -> ModelEntry:
    """A model with the fingerprint of everything that decides its samples but prompt and seed."""
    about: dict[str, object]
    if spec.is_pictures:
        # nothing here draws them
        about = {"model": identity, "settings": {}, "versions": {}, "revision": DRAW_REVISION}
        return ModelEntry(spec.name, spec.place, digest(about), about)
    settings = protocol.settings()
    # a sample knows its own seed; in sequence it depends on all that went before
    if protocol.seed_mode == "per_prompt":
        settings.pop("seeds")
    else:
        settings["texts"] = prompts.sha256
    about = {
        "model": identity,
        "settings": settings,
        "dtype": dtype,
        "device": device,
        "versions": {name: version(name) for name in VERSIONS},
        "revision": DRAW_REVISION,
    }
    return ModelEntry(spec.name, spec.place, digest(about), about)


def _plain(plan: Plan) -> dict[str, object]:
    return {
        "protocol": asdict(plan.protocol),
        "prompts": {
            name: value if name != "prompts" else [asdict(prompt) for prompt in plan.prompts.prompts]
            for name, value in vars(plan.prompts).items()
        },
        "models": [asdict(model) for model in plan.models],
    }


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

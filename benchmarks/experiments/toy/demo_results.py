"""From scores on disk to what is reported: means with intervals, win rates, verdicts, and the table in words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from benchmarks.experiments.toy.demo_arms import ARMS, DemoPaths, trained
from seppo_core.report.statistics import Interval, mean_interval, paired_difference, sign_flip_test, win_rate
from seppo_core.run.history import read_lines, read_metrics
from seppo_core.toy.captions import Modality

METHOD = "mean of the exact score over held-out prompts x seeds; 95 % t interval with the prompt as unit"
WIN_RATE = "share of (prompt, seed) pairs that score above the base's sample from the same noise; ties count half"
SECONDS = "wall time of the train command on one thread: reference samples and checkpoints included, imports not"
NAMES: dict[Modality, str] = {"image": "images", "video": "clips"}


@dataclass(frozen=True)
class ArmResult:
    """One arm on one modality. `scores` (prompts, seeds), `samples` (prompts, seeds, [f], h, w, 3) uint8."""

    arm: str
    scores: np.ndarray
    samples: np.ndarray
    mean: Interval
    win_rate: Interval
    seconds: float
    curve: list[tuple[int, float]]
    """(updates, mean score) at the checkpoints that were scored, with the first seed alone."""
    metrics: list[dict]

    @property
    def name(self) -> str:
        return ARMS[self.arm].name

    def to_json(self) -> dict:
        mean, low, high = (round(float(part), 5) for part in self.mean)
        return {
            "mean": mean,
            "low": low,
            "high": high,
            "win_rate": round(self.win_rate.value, 5),
            "win_rate_interval": [round(self.win_rate.low, 5), round(self.win_rate.high, 5)],
            "seconds": round(self.seconds, 1),
            "curve": [[update, round(score, 5)] for update, score in self.curve],
        }


@dataclass(frozen=True)
class Verdict:
    """A statement that the demo puts to the test, and how it came out. `holds` is None for what is only told."""

    text: str
    holds: bool | None

    def __str__(self) -> str:
        return self.text if self.holds is None else f"{self.text}: {'yes' if self.holds else 'NO'}"


@dataclass(frozen=True)
class ModalityResult:
    """All arms of one modality on the same prompts and seeds."""

    modality: Modality
    prompts: list[str]
    seeds: list[int]
    arms: dict[str, ArmResult]
    set_scores: dict[str, float]
    """Mean score of the training sets: winners, losers, continued."""

    @property
    def verdicts(self) -> list[Verdict]:
        others = [arm for arm in self.arms if arm not in ("base", "continued", "seppo")]
        return [self._above("base"), self._above("continued"), *map(self._beside, others)]

    def _above(self, other: str) -> Verdict:
        """What the demo is to show."""
        a, b = self.arms["seppo"], self.arms[other]
        value, low, high = paired_difference(a.scores, b.scores)
        told = f"by {value:+.3f} ({low:+.3f} to {high:+.3f} with 95 % confidence)"
        return Verdict(f"{a.name} above {b.name}, {told} on the same prompts", low > 0)

    def _beside(self, other: str) -> Verdict:
        a, b = self.arms["seppo"], self.arms[other]
        value, low, high = paired_difference(a.scores, b.scores)
        p = sign_flip_test(a.scores - b.scores)
        return Verdict(f"{a.name} − {b.name}, {value:+.3f} ({low:+.3f} to {high:+.3f}), paired, p = {p:.2g}", None)


def load_results(
    paths: DemoPaths, modality: Modality, known: Sequence[str], done: Mapping[str, float]
) -> ModalityResult:
    """Reads what the judges wrote of the `known` arms; `done` has the seconds of every task."""
    prompts, seeds = _drawn(_files(paths, modality, "base")[-1])
    base = load_file(_files(paths, modality, "base")[-1])["scores"].astype(float)
    arms, taught = {}, trained(tuple(known))
    for arm in known:
        files = _files(paths, modality, arm)
        if _drawn(files[-1]) != (prompts, seeds):
            raise ValueError(f"{files[-1]} was scored on other prompts or seeds than the base; run the demo afresh")
        found = load_file(files[-1])
        scores = found["scores"].astype(float)
        arms[arm] = ArmResult(
            arm, scores, found["samples"], mean_interval(scores), win_rate(scores, base),
            seconds=done.get(f"{modality}/train/{arm}", 0.0),
            curve=[(0, float(base[:, 0].mean())), *map(_point, files)] if arm in taught else [],
            metrics=read_metrics(paths.run(modality, arm)) if arm in taught else [],
        )  # fmt: skip
    return ModalityResult(modality, prompts, seeds, arms, _set_scores(paths, modality))


def _set_scores(paths: DemoPaths, modality: Modality) -> dict[str, float]:
    ranked = read_lines(paths.data(modality, "winners") / "metadata.jsonl")
    means = {
        "winners": np.mean([row["score"] for row in ranked]),
        "losers": np.mean([row["loser_score"] for row in ranked]),
    }
    start = json.loads((paths.data(modality, "winners").parent / "start.json").read_text(encoding="utf-8"))
    return {name: round(float(mean), 4) for name, mean in means.items()} | start


def text_table(result: ModalityResult) -> str:
    """The table that the demo prints."""
    lines = [
        f"{NAMES[result.modality]}: {len(result.prompts)} held-out prompts x {len(result.seeds)} seeds",
        f"  {'':18} {'mean':>6}   {'95 % interval':15}   {'over base, paired':26}   {'wins':>6}   {'seconds':>7}",
    ]
    base = result.arms["base"]
    for arm in result.arms.values():
        value, low, high = arm.mean
        line = f"  {arm.name:18} {value:6.3f}   {low:.3f} to {high:.3f}"
        if arm is not base:
            gain, least, most = paired_difference(arm.scores, base.scores)
            paired = f"{gain:+.3f} ({least:+.3f} to {most:+.3f})"
            line += f"    {paired:26}   {100 * arm.win_rate.value:4.0f} %   {arm.seconds:7.0f}"
        lines.append(line)
    return "\n".join(lines + [f"  {verdict}" for verdict in result.verdicts])


def markdown(results: Sequence[ModalityResult], when: str) -> str:
    """Table and verdicts as a page of text can take them; `when` says how the demo was run."""
    head = [f"{NAMES[r.modality]}: R | wins" for r in results]
    lines = [when, "", f"| | {' | '.join(head)} |", "|---" * (1 + 2 * len(results)) + "|"]
    for name, about in ARMS.items():
        found = [result.arms.get(name) for result in results]
        if any(found):
            cells = [cell for arm in found for cell in _cells(arm)]
            lines.append(f"| {f'**{about.name}**' if name == 'seppo' else about.name} | {' | '.join(cells)} |")
    told = [f"- {NAMES[result.modality]}: {verdict}" for result in results for verdict in result.verdicts]
    return "\n".join([*lines, "", *told, ""])


def _cells(arm: ArmResult | None) -> tuple[str, str]:
    if arm is None:
        return "", ""
    value, low, high = arm.mean
    wins = "" if arm.arm == "base" else f"{100 * arm.win_rate.value:.0f} %"
    return f"{value:.3f} ({low:.3f} to {high:.3f})", wins


def report_json(results: Sequence[ModalityResult], meta: dict) -> dict:
    """The content of report.json: by modality and arm, and how it was measured."""
    by_modality = {r.modality: {name: arm.to_json() for name, arm in r.arms.items()} for r in results}
    measured = {"mean": METHOD, "win_rate": WIN_RATE, "seconds": SECONDS, "curve": "[updates, mean score, one seed]"}
    protocol = {
        r.modality: {
            "prompts": len(r.prompts),
            "seeds": r.seeds,
            "set_scores": r.set_scores,
            "verdicts": [{"text": v.text, "holds": v.holds} for v in r.verdicts],
        }
        for r in results
    }
    return {**by_modality, "meta": {"format": 1, "measured": measured, "protocol": protocol, **meta}}


def _files(paths: DemoPaths, modality: Modality, arm: str) -> list[Path]:
    """Scored checkpoints of an arm, oldest first."""
    files = sorted((paths.scores(modality) / arm).glob("update-*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{paths.scores(modality) / arm} holds no scores; run the demo again, with --resume")
    return files


def _drawn(path: Path) -> tuple[list[str], list[int]]:
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    return json.loads(metadata["prompts"]), json.loads(metadata["seeds"])


def _point(path: Path) -> tuple[int, float]:
    with safe_open(path, framework="numpy") as file:
        return int(path.stem.partition("-")[2]), float(file.get_tensor("scores")[:, 0].mean())

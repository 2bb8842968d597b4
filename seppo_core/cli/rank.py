"""`rank`: preferences of a judge among a model's own samples, as data that `prepare` reads."""

import json
from dataclasses import asdict
from pathlib import Path

from seppo_core.cli import commands
from seppo_core.config.method import NOISY_SCHEDULERS
from seppo_core.config.options import RankRequest, SampleRequest
from seppo_core.config.schema import Config
from seppo_core.distributed.ranks import make_accelerator
from seppo_core.export.sample_folder import INDEX
from seppo_core.export.samples import WriteSample, noise_key
from seppo_core.io.atomic import save_text
from seppo_core.io.hashing import sha256_file
from seppo_core.io.progress import progress_bar
from seppo_core.judging.in_memory import Media
from seppo_core.judging.ranking import Scored
from seppo_core.judging.ranking import rank as rank_samples
from seppo_core.judging.sample_judge import DrawnSample, SampleJudge, open_judge
from seppo_core.models.sampling import draws_noise
from seppo_core.plan.architecture import base_architecture
from seppo_core.report.wording import counted
from seppo_core.run.history import read_lines
from seppo_core.training.setup import Load

TABLE, SCORES, SETTINGS = "metadata.jsonl", "scores.jsonl", "rank.json"


def rank(config: Config, request: RankRequest, load: Load, media: Media) -> Path:
    """Draws `request.samples` samples a prompt, has them scored, and writes the table; returns its folder.

    The same command goes on where it was stopped: samples that are drawn and scores that are given are kept.
    ValueError if the folder holds what another command began.
    """
    out = Path(f"{config.run}-ranked") if request.out is None else Path(request.out)
    # a judge that cannot be opened is told before hours of sampling
    judge = open_judge(
        request.judge, media.kind, media.read, out / "judge.log",
        column=request.column, places=request.places, device=make_accelerator().device,
    )  # fmt: skip
    _claim(out, config, request, judge)
    samples = _drawn(config, request, load, media.write, out / "samples")
    scores = _scored(judge, samples, out)
    size = [config.data.height, config.data.width, config.data.frames]
    known = _noise_decides(config, request.scheduler or config.preview.scheduler)
    noise = lambda one: {"key": noise_key(one.prompt, one.seed), "size": size} if known else None  # noqa: E731
    ranked = rank_samples(
        [
            Scored(f"samples/{one.file.name}", one.prompt, one.seed, score, noise(one))
            for one in samples
            if isinstance(score := scores[one.file.name], float)
        ],
        request.supervision,
        request.min_gap,
    )
    failed = {name: reason for name, reason in scores.items() if isinstance(reason, str)}
    if not ranked.rows:
        why = next(iter([*failed.values(), *ranked.left_out.values()]))
        raise ValueError(f"{judge.name} ranks no prompt of {out}: {why}; see {out / SCORES}")
    save_text(out / TABLE, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ranked.rows))
    _tell(out, judge, ranked.rows, ranked.left_out, failed, request)
    return out


def _claim(out: Path, config: Config, request: RankRequest, judge: SampleJudge) -> None:
    """Notes what the folder is ranked with, or checks that it is the same as before."""
    asked = {key: value for key, value in asdict(request).items() if key not in ("out", "batch_size")}
    settings = json.loads(json.dumps(asked | {"base": config.model.base, "judge": judge.name, "is": judge.fingerprint}))
    note = out / SETTINGS
    if not note.exists():
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} holds other files; name a new or an empty folder with --out")
        save_text(note, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
        return
    before = json.loads(note.read_text(encoding="utf-8"))
    changed = sorted(key for key in settings.keys() | before.keys() if settings.get(key) != before.get(key))
    if changed:
        raise ValueError(
            f"{out} was ranked otherwise ({', '.join(changed)}); name another folder with --out, or repeat the command "
            "that it began with"
        )


def _drawn(config: Config, request: RankRequest, load: Load, write: WriteSample, folder: Path) -> list[DrawnSample]:
    drawing = SampleRequest(
        prompts=request.prompts, prompt_file=request.prompt_file,
        seeds=tuple(range(request.first_seed, request.first_seed + request.samples)), checkpoint=request.checkpoint,
        weights=request.weights, out=str(folder), scheduler=request.scheduler, steps=request.steps,
        guidance_scale=request.guidance_scale, batch_size=request.batch_size,
    )  # fmt: skip
    # loads and draws only what is not there yet
    commands.sample(config, drawing, load, write)
    # a file of prompts may have lost some since they were drawn
    wanted = set(commands.prompts_of(config, drawing))
    lines = [line for line in read_lines(folder / INDEX) if line["prompt"] in wanted]
    return [DrawnSample(folder / line["file"], line["prompt"], line["seed"]) for line in lines]


def _noise_decides(config: Config, solver: str) -> bool:
    """Whether the noise that a solver begins with gives the sample: with others, no one noise does."""
    if solver != "default":
        return solver not in NOISY_SCHEDULERS
    try:
        base = base_architecture(config)
    except FileNotFoundError:
        return False
    return not draws_noise(base.index["scheduler"][1], base.parts.get("scheduler", {}))


def _scored(judge: SampleJudge, samples: list[DrawnSample], out: Path) -> dict[str, float | str]:
    """The score of each file by name, or the reason why it has none; scores are kept with the content they are of."""
    path = out / SCORES
    content = {one.file.name: sha256_file(one.file) for one in samples}
    found: dict[str, float | str] = {}
    for line in read_lines(path) if path.exists() else ():
        if "score" in line and content.get(line["file"]) == line["sha256"]:
            found[line["file"]] = line["score"]
    left = [one for one in samples if one.file.name not in found]
    with (
        path.open("a", encoding="utf-8") as lines,
        progress_bar(len(samples), unit="sample", description=judge.name) as bar,
    ):
        bar.update(len(found))

        def add(one: DrawnSample, score: float | str) -> None:
            name = one.file.name
            found[name] = score
            said = {"reason": score} if isinstance(score, str) else {"score": score}
            lines.write(json.dumps({"file": name, "sha256": content[name]} | said, ensure_ascii=False) + "\n")
            lines.flush()
            bar.update(1)

        if left:
            try:
                judge.score(left, add)
            except RuntimeError as error:
                given = counted(sum(isinstance(score, float) for score in found.values()), "score")
                kept = f"samples and {given} are kept in {out}, and the same command goes on"
                raise ValueError(f"{error}; {kept}") from error
    return found


def _tell(
    out: Path, judge: SampleJudge, rows: list[dict], left_out: dict[str, str], failed: dict[str, str],
    request: RankRequest,
) -> None:  # fmt: skip
    kept = {row["caption"] for row in rows}
    found = f"{counted(len(kept), 'prompt')} ranked by {judge.name}, {counted(len(rows), 'row')}"
    print(f"{found} of {request.supervision}: {out / TABLE}")
    if left_out:
        prompt, reason = next(iter(left_out.items()))
        print(f"left out: {counted(len(left_out), 'prompt')}, e.g. {prompt!r}: {reason}")
    if failed:
        name, reason = next(iter(failed.items()))
        print(f"without a score: {counted(len(failed), 'sample')}, e.g. {name}: {reason}")

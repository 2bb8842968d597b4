"""From scores to the statistics of a report, as one JSON value of a stated version."""

from collections.abc import Sequence

import numpy as np

from benchmarks.evaluation.folder import PlanFolder
from benchmarks.evaluation.protocols import SETS, Protocol, changed
from benchmarks.evaluation.report.text import FORMAT, KIND
from benchmarks.evaluation.results import Array, ModelSamples, Results, category_values, collect, prompt_means, shared
from benchmarks.evaluation.set_comparison import set_results, set_warnings
from benchmarks.evaluation.trained_on import fitted, reward_warnings
from seppo_core.judging.columns import Column
from seppo_core.report.statistics import (
    Interval,
    holm,
    mean_interval,
    paired_difference,
    sign_flip_test,
)
from seppo_core.report.statistics import win_rate as win_rate_of
from seppo_core.report.wording import counted, some

MANY_VALUES = 30
"""Values of a category column beyond which it is no longer a breakdown."""
POWER = 2.8016
"""Normal quantiles of 97.5 % and 80 % together: the smallest true difference that a test finds four times in five."""


def analyse(folder: PlanFolder, baseline: str | None = None, set_resamples: int | None = None) -> tuple[dict, Results]:
    """The report of a folder as JSON, and the arrays that it came from.

    `set_resamples` are the bootstrap draws of distances between sets (`set_results`).
    ValueError if `baseline` is not a model of the plan.
    """
    results = collect(folder)
    names = results.names
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise ValueError(f"--baseline {baseline!r} is not a model here; there are {', '.join(names)}")
    plan = results.plan
    sets = set_results(folder, results, baseline, set_resamples)
    report = {
        "format": FORMAT,
        "kind": KIND,
        "label": plan.label,
        "fingerprint": plan.fingerprint,
        "protocol": _protocol(plan.protocol),
        "prompts": _prompts(folder, results),
        "baseline": baseline,
        "models": [_model(results, model) for model in results.models],
        "columns": [_column(results, column) for column in [*results.columns, *results.set_columns]],
        "scores": [*_scores(results), *_set_scores(results, sets)],
        "differences": [*_differences(results, baseline), *_set_differences(results, sets, baseline)],
        "categories": _categories(results, baseline),
        "groups": _groups(results),
        "sets": sets,
    }
    rewards = folder.notes("rewards")
    metrics = [column["metric"] for column in report["columns"]]
    report["fitted"] = {name: fitted(rewards[name], metrics) for name in names if name in rewards}
    report["warnings"] = _warnings(report)
    return report, results


def _protocol(protocol: Protocol) -> dict:
    values = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(protocol).items()}
    return {**values, "changed": {k: list(v) if isinstance(v, tuple) else v for k, v in changed(protocol).items()}}


def _prompts(folder: PlanFolder, results: Results) -> dict:
    prompts = results.plan.prompts
    known = SETS.get(prompts.name)
    return {
        "name": prompts.name,
        "file": prompts.file,
        "file_sha256": prompts.file_sha256,
        "texts_sha256": prompts.sha256,
        "rows": prompts.rows,
        "used": len(prompts),
        "cut_from": prompts.cut_from,
        "skipped": list(prompts.skipped),
        "notes": list(prompts.notes),
        "published_rows": None if known is None else known.rows,
        "as_published": results.plan.published_prompts(),
        "overlap": folder.notes("overlap"),
        "references": folder.notes("references").get("unmatched", []),
        "categories": {column: len(category_values(results.plan, column)) for column in prompts.columns()},
    }


def _model(results: Results, model: ModelSamples) -> dict:
    wanted = len(results.plan.prompts) * len(results.plan.protocol.seeds)
    return {
        "name": model.entry.name,
        "place": model.entry.place,
        "fingerprint": model.entry.fingerprint,
        "identity": model.entry.about["model"],
        "sampler": model.sampler,
        "versions": model.entry.about["versions"],
        "wanted": wanted,
        "samples": model.count,
        "failed": sum(model.failures.values()),
        "failures": model.failures,
        "changed": model.changed,
        "absent": model.absent,
        "truncated": model.truncated,
        "seconds_per_sample": round(model.seconds / model.count, 3) if model.count else None,
    }


def _column(results: Results, column: Column) -> dict:
    judge = next(judge for judge in results.judges if judge.metric == column.metric)
    return {
        **{name: vars(column)[name] for name in ("name", "metric", "mode", "what", "better", "scale", "digits")},
        "title": column.title,
        "fingerprint": judge.fingerprint,
        "truncated": judge.truncated,
        "judge": judge.about,
    }


def _scores(results: Results) -> list[dict]:
    rows = []
    for name in results.names:
        for column in results.columns:
            table = results.table(name, column.name)
            means = prompt_means(table)
            there = means[np.isfinite(means)]
            failed = results.score_failures[name, column.metric]
            row = {"model": name, "column": column.name, "prompts": len(there), "not_scored": failed}
            if len(there) >= 2:
                row |= _interval(mean_interval(there))
                row["sd"] = float(there.std(ddof=1))
                full = table[np.isfinite(table).all(1)]
                if table.shape[1] > 1 and len(full) >= 2:
                    row["seed_sd"] = float(full.std(1, ddof=1).mean())
            rows.append(row)
    return rows


def _differences(results: Results, baseline: str) -> list[dict]:
    """Each model against the baseline on shared prompts and seeds; Holm's correction over the columns."""
    rows = []
    for name in [name for name in results.names if name != baseline]:
        mine = []
        for column in results.columns:
            first, second, complete = shared(results.table(name, column.name), results.table(baseline, column.name))
            if len(first) < 2:
                continue
            difference = (first - second).mean(1)
            deviation = float(difference.std(ddof=1))
            mine.append(
                {
                    "model": name,
                    "baseline": baseline,
                    "column": column.name,
                    "prompts": len(first),
                    "left_out": int((~complete).sum()),
                    **_interval(paired_difference(first, second)),
                    "p": sign_flip_test(first - second),
                    "effect": float(difference.mean() / deviation) if deviation else None,
                    "detectable": POWER * deviation / len(first) ** 0.5,
                    "win_rate": list(win_rate_of(column.better * first, column.better * second)),
                }
            )
        adjusted = holm([row["p"] for row in mine]) if mine else []
        rows += [{**row, "p_holm": p} for row, p in zip(mine, adjusted, strict=True)]
    return rows


def _set_scores(results: Results, sets: dict[str, dict]) -> list[dict]:
    rows = []
    for column in results.set_columns:
        found = sets[column.metric]
        for name in results.names:
            row = {
                "model": name,
                "column": column.name,
                "prompts": found["prompts"],
                "left_out": found["left_out"],
                "not_scored": {},
            }
            if "estimates" in found:
                estimate = found["estimates"][name]
                row |= _interval(Interval(*estimate["interval"]))
                row |= {"bias": estimate["bias"], "resamples": found["resamples"]}
            rows.append(row)
    return rows


def _set_differences(results: Results, sets: dict[str, dict], baseline: str) -> list[dict]:
    """Differences to the baseline, from the same draws of prompts."""
    return [
        {"model": name, "baseline": baseline, "column": column.name, "prompts": sets[column.metric]["prompts"],
         **_interval(Interval(*interval))}
        for column in results.set_columns
        for name, interval in sets[column.metric].get("differences", {}).items()
    ]  # fmt: skip


def _categories(results: Results, baseline: str) -> list[dict]:
    rows = []
    for category in results.plan.prompts.columns():
        values = category_values(results.plan, category)
        if len(values) > MANY_VALUES:
            continue
        for column in results.columns:
            for value, at in values.items():
                for name in results.names:
                    row = {"category": category, "value": value, "column": column.name, "model": name}
                    mine = results.table(name, column.name)[at]
                    there = prompt_means(mine)
                    there = there[np.isfinite(there)]
                    row["prompts"] = len(there)
                    if len(there) >= 2:
                        row |= _interval(mean_interval(there))
                    first, second, _ = shared(mine, results.table(baseline, column.name)[at])
                    if name != baseline and len(first) >= 2:
                        gain = paired_difference(first, second)
                        row["gain"] = list(gain)
                    rows.append(row)
    return rows


def _groups(results: Results) -> list[dict]:
    """The published form of HPSv2's table: per style the mean of ten groups of prompts and the groups' deviation."""
    size = results.plan.protocol.group_size
    columns = results.plan.prompts.columns()
    if size is None or not columns:
        return []
    rows = []
    for style, at in category_values(results.plan, columns[0]).items():
        for column in results.columns:
            for name in results.names:
                means = prompt_means(results.table(name, column.name)[at])
                groups = _group_means(means, size)
                if len(groups):
                    rows.append(
                        {"style": style, "column": column.name, "model": name, "groups": len(groups),
                         "mean": float(groups.mean()), "deviation": float(groups.std())}
                    )  # fmt: skip
    return rows


def _group_means(means: Array, size: int) -> Array:
    """Means of consecutive groups of `size` prompts; groups with a missing prompt or too few are left out."""
    groups = [means[start : start + size] for start in range(0, len(means) - size + 1, size)]
    return np.array([group.mean() for group in groups if np.isfinite(group).all()])


def _warnings(report: dict) -> list[str]:
    """Warnings that a reader needs before the numbers."""
    found = []
    prompts, protocol = report["prompts"], report["protocol"]
    if prompts["as_published"] is False:
        found.append(
            f"The prompts are not those published as {prompts['name']}: {prompts['used']} used"
            + (f", {prompts['published_rows']} published" if prompts["published_rows"] else "")
            + f" (SHA-256 of the texts {prompts['texts_sha256'][:12]})."
        )
    if prompts["skipped"]:
        rows = f"{len(prompts['skipped'])} {'row' if len(prompts['skipped']) == 1 else 'rows'} of {prompts['file']}"
        found.append(f"Without a prompt: {rows}, e.g. {prompts['skipped'][0]}.")
    found += prompts["notes"]
    if protocol["changed"]:
        what = ", ".join(f"{name} = {value}" for name, value in protocol["changed"].items())
        found.append(f"Changed from the protocol: {what}.")
    if protocol["seed_mode"] == "sequential":
        found.append(
            "Seeds are sequential, as in the authors' script: each sample depends on the order of the prompts."
        )
    found += prompts["references"]
    found += _model_warnings(report["models"], prompts)
    found += reward_warnings(report["fitted"])
    for column in {column["metric"]: column for column in report["columns"]}.values():
        if column["truncated"]:
            cut = f"{column['truncated']} of {counted(prompts['used'], 'prompt')}"
            found.append(f"{column['metric']} does not read {cut} to the end.")
    unscored = {
        (row["model"], reason): count for row in report["scores"] for reason, count in row["not_scored"].items()
    }
    found += _once(
        [(name, f"{counted(count, 'sample')} without a score: {reason}.") for (name, reason), count in unscored.items()]
    )
    found += set_warnings(report["sets"], prompts["used"])
    if len({model["sampler"].get("dtype") for model in report["models"] if model["sampler"]}) > 1:
        found.append("The models were not all sampled in one precision.")
    return found


def _model_warnings(models: Sequence[dict], prompts: dict) -> list[str]:
    found, used = [], counted(prompts["used"], "prompt")
    for model in models:
        name = model["name"]
        if model["failed"]:
            reason, count = max(model["failures"].items(), key=lambda item: item[1])
            which = "" if count == model["failed"] else f" ({count})"
            failed = f"{model['failed']} of {counted(model['wanted'], 'sample')} failed"
            found.append((name, f"{failed}: {reason}{which}."))
        if model["changed"]:
            found.append((name, f"changed or damaged: {some(model['changed'], 3)}."))
        if model["absent"]:
            found.append((name, f"not drawn yet: {model['absent']} of {counted(model['wanted'], 'sample')}."))
        if model["truncated"]:
            found.append((name, f"the text encoder cuts {model['truncated']} of {used}."))
        if shared_prompts := prompts["overlap"].get(name):
            found.append((name, f"seen in training: {shared_prompts} of {used}."))
    lines = _once(found)
    if len({str(model["versions"]) for model in models if model["versions"]}) > 1:
        lines.append("The models were sampled with different versions of libraries.")
    return lines


def _once(found: Sequence[tuple[str, str]]) -> list[str]:
    """One line for what is true of several models alike."""
    names: dict[str, list[str]] = {}
    for name, text in found:
        names.setdefault(text, []).append(name)
    return [f"{', '.join(of)}: {text}" for text, of in names.items()]


def _interval(interval: Interval) -> dict[str, float]:
    return {"mean": interval.value, "low": interval.low, "high": interval.high}

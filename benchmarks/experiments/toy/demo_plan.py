"""The demo's plan: the commands that make and judge its arms, as a graph of tasks."""

from dataclasses import dataclass

from benchmarks.experiments.toy.arms import PROGRAMS, SCHEMAS, passes_per_item
from benchmarks.experiments.toy.demo_arms import ARMS, PASS, DemoPaths, Recipe, load_configs, trained
from benchmarks.experiments.toy.demo_watch import Watch, judge_progress, watch_judge, watch_lines, watch_training
from seppo_core.config.schema import Config
from seppo_core.toy.captions import Modality, held_out, train_captions

START = 1.5
"""Seconds of one core that a process takes beside its work."""
SCORES = "seppo_core.toy.score"
JUDGES: dict[Modality, str] = {"image": f"{SCORES}:score_images", "video": f"{SCORES}:score_videos"}
LONGEST_FIRST = ("published", "seppo", "anchor_off", "gt_pair", "dpo", "sft", "continued")
"""So that no worker is left with a long task at the end."""


@dataclass(frozen=True)
class Task:
    """One process of the demo. `command` follows `python`; `weight` is its expected seconds of one core."""

    name: str
    label: str
    modality: Modality
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    weight: float = 1.0
    watch: Watch = lambda: None


def plan(paths: DemoPaths, modalities: tuple[Modality, ...], seed: int, recipes: dict[Modality, Recipe]) -> list[Task]:
    """All tasks, in the order in which they are best begun; the cheap way to see what the demo will do."""
    tasks = []
    for modality in modalities:
        recipe = recipes[modality]
        make = _Maker(paths, modality, seed, recipe, load_configs(modality, recipe.arms))
        order = [arm for arm in LONGEST_FIRST if arm in recipe.arms]
        tasks += [make.start(), make.rank(), make.prepare("winners"), make.prepare("continued")]
        tasks += [make.train(arm) for arm in order]
        tasks += [make.judge("base"), *map(make.judge, order)]
    return tasks


@dataclass(frozen=True)
class _Maker:
    """Makes the tasks of one modality."""

    paths: DemoPaths
    modality: Modality
    seed: int
    recipe: Recipe
    configs: dict[str, Config]

    def start(self) -> Task:
        folder, recipe = self.paths.data(self.modality, "winners").parent, self.recipe
        training = () if recipe.training is None else (str(recipe.training),)
        command = (
            "-m", "benchmarks.experiments.toy.demo_data", self.modality, str(folder), str(self.seed),
            str(recipe.continued), *training,
        )  # fmt: skip
        return self._task("data", "prompts, and data for the control", command, (), 1)

    def rank(self) -> Task:
        """Preferences as people have them: the best and the worst of what the base itself draws for a prompt."""
        recipe, ranked = self.recipe, self.paths.data(self.modality, "winners")
        command = (
            "-m", PROGRAMS[self.modality], "rank", str(ARMS["sft"].path(self.modality)),
            "--judge", JUDGES[self.modality], "--supervision", "pairs",
            "--prompt_file", str(self.paths.prompts(self.modality, "training")), "--samples", str(recipe.samples),
            "--first_seed", str(1000 * self.seed), *self._solver("--"), "--batch_size", str(recipe.at_once),
            "--out", str(ranked),
        )  # fmt: skip
        prompts = len(train_captions(self.modality)) if recipe.training is None else recipe.training
        count = prompts * recipe.samples
        return self._task(
            "rank", f"ranking {recipe.samples} samples of the base for each of {prompts} prompts", command, ("data",),
            count * recipe.steps * PASS[self.modality], watch_lines(ranked / "samples" / "samples.jsonl", count),
        )  # fmt: skip

    def prepare(self, kind: str) -> Task:
        arm, needs = ("sft", "rank") if kind == "winners" else ("continued", "data")
        command = ("-m", PROGRAMS[self.modality], "prepare", str(ARMS[arm].path(self.modality)), *self._data(kind))
        label = "encoding winners and losers" if kind == "winners" else "encoding the control's data"
        return self._task(f"prepare/{kind}", label, command, (needs,), 2)

    def train(self, arm: str) -> Task:
        folder, recipe, config = self.paths.run(self.modality, arm), self.recipe, self.configs[arm]
        batch = str(recipe.batch)
        command = (
            "-m", PROGRAMS[self.modality], "train", str(ARMS[arm].path(self.modality)), "--run", str(folder),
            "--seed", str(self.seed), *self._data(ARMS[arm].data), "--data.prefetch", "0",
            "--loop.iterations", str(recipe.iterations), "--loop.updates_per_iteration", str(recipe.each),
            "--loop.batch_size", batch, "--loop.micro_batch_size", batch,
            "--loop.checkpoint_every", str(recipe.each), "--loop.keep_checkpoints", "1000",
            "--optimizer.lr", f"{recipe.rate:g}", *self._averaged(),
            "--optimizer.warmup_updates", str(recipe.warmup),
            *self._solver("--reference_samples."),
            *self._again(config),
            # measured before the first update by methods without a reference
            "--loop.validate_items", batch, *ARMS[arm].options,
        )  # fmt: skip
        drawn = recipe.steps - config.reference_samples.steps if config.method.spec.counterpart == "generated" else 0
        passes = passes_per_item(config.method, config.reference_samples) + drawn
        weight = recipe.each * recipe.iterations * recipe.batch * passes * PASS[self.modality]
        needs = (f"prepare/{ARMS[arm].data}",)
        watch = watch_training(folder, SCHEMAS[self.modality])
        return self._task(f"train/{arm}", ARMS[arm].name, command, needs, weight, watch)

    def judge(self, arm: str) -> Task:
        recipe = self.recipe
        command = (
            "-m", "benchmarks.experiments.toy.judge", self.modality, str(self.paths.out), arm, "--seed", str(self.seed),
            "--seeds", str(recipe.seeds), "--batch", str(recipe.at_once), *self._solver("--"),
            "--curve-points", str(recipe.points),
            *(() if recipe.prompts is None else ("--prompts", str(recipe.prompts))),
        )  # fmt: skip
        watch = watch_judge(judge_progress(self.paths.scores(self.modality), arm))
        needs = tuple(f"train/{one}" for one in trained((arm,)))
        count = (recipe.prompts or len(held_out(self.modality))) * (recipe.seeds + (recipe.points - 1) * len(needs))
        weight = count * recipe.steps * PASS[self.modality]
        return self._task(f"score/{arm}", f"scoring {ARMS[arm].name}", command, needs, weight, watch)

    def _again(self, config: Config) -> tuple[str, ...]:
        """Of arms against the base's own samples alone: others draw none, or of other models."""
        drawn = config.method.spec.counterpart == "generated"
        if self.recipe.repeat_after is None or not drawn or config.method.reference != "initial":
            return ()
        return "--reference_samples.repeat_after", str(self.recipe.repeat_after)

    def _averaged(self) -> tuple[str, ...]:
        if self.recipe.average is None:
            return "--optimizer.schedule", "linear"
        return "--optimizer.schedule", "constant", "--optimizer.ema_decay", f"{self.recipe.average:g}"

    def _solver(self, prefix: str) -> tuple[str, ...]:
        return (f"{prefix}scheduler", self.recipe.scheduler, f"{prefix}steps", str(self.recipe.steps))

    def _data(self, kind: str) -> tuple[str, ...]:
        source, cache = self.paths.data(self.modality, kind), self.paths.cache(self.modality, kind)
        # what learns from winners alone takes the winners of the pairs
        form = ("--data.supervision", "pairs") if kind == "winners" else ()
        return ("--data.source", str(source), "--data.cache", str(cache), *form)

    def _task(
        self, name: str, label: str, command: tuple[str, ...], needs: tuple[str, ...], work: float,
        watch: Watch = lambda: None,
    ) -> Task:  # fmt: skip
        own = tuple(f"{self.modality}/{need}" for need in needs)
        return Task(f"{self.modality}/{name}", label, self.modality, command, own, START + work, watch)

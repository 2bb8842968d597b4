"""Metrics that a model was trained or selected by: such a number says how well it was fitted, not how good it is."""

from collections.abc import Collection, Iterable, Mapping, Sequence

FAMILIES = {
    "pickscore": "PickScore",
    "hps": "HPS",
    "image_reward": "ImageReward",
    "imagereward": "ImageReward",
    "aesthetic": "LAION aesthetic",
    "clip_score": "CLIP",
    "openclip": "CLIP",
    "open_clip": "CLIP",
    "videoscore": "VideoScore",
    "videoreward": "VideoReward",
}
"""Beginnings of metrics' names, plug-ins' too, and the family: one architecture on one kind of labels."""
TRAINED_ON = {"pickapic": "pickscore", "hpdv2": "hps", "imagerewarddb": "image_reward"}
"""Data sets of human choices, and the metric that was trained on them."""
MARK = "§"


def parse_rewards(given: Iterable[str], models: Sequence[str], metrics: Collection[str]) -> dict[str, list[str]]:
    """{model: metrics or data sets} from `MODEL=METRIC[,METRIC]`; ValueError for one that is not among those given.

    `pickapic`, `hpdv2` and `imagerewarddb` stand for training on the data that PickScore, HPS and ImageReward saw.
    """
    found: dict[str, list[str]] = {}
    for item in given:
        model, equals, names = item.partition("=")
        if not equals or not names:
            raise ValueError(f"--rewards {item!r} should be MODEL=METRIC[,METRIC], e.g. tuned=pickscore")
        if model not in models:
            raise ValueError(f"--rewards {item!r}: no model {model!r}; there are {', '.join(models)}")
        for name in names.split(","):
            if name not in metrics and name not in TRAINED_ON:
                raise ValueError(
                    f"--rewards {item!r}: {name!r} is neither a metric nor one of the data sets {', '.join(TRAINED_ON)}"
                )
            found.setdefault(model, []).append(name)
    return found


def family(name: str) -> str:
    """The reward family of a metric, a plug-in or a data set of choices; its own name if it belongs to none."""
    name = TRAINED_ON.get(name, name).lower()
    return next((kind for start, kind in FAMILIES.items() if name.startswith(start)), name)


def fitted(rewards: Sequence[str], metrics: Iterable[str]) -> dict[str, str]:
    """Those of `metrics` that are of one family with a reward, and which reward that is."""
    found = {}
    for metric in dict.fromkeys(metrics):
        same = [reward for reward in rewards if family(reward) == family(metric)]
        if same:
            # the very same metric says more than its cousin
            found[metric] = metric if metric in same else same[0]
    return found


def reward_warnings(rewards: Mapping[str, Mapping[str, str]]) -> list[str]:
    """One line per model and metric, for {model: {metric: reward}}."""
    lines = []
    for model, metrics in rewards.items():
        for metric, reward in metrics.items():
            how = "by it" if metric == reward else f"by {reward}, of the same family"
            if reward in TRAINED_ON:
                how = f"on {reward}, which the metric was trained on as well"
            lines.append(f"{model} was trained or selected {how}: its {metric} ({MARK}) says little of its quality.")
    return lines

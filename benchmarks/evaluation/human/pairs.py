"""Which samples meet, on which sides: the key that the page does not hold."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import torch

from benchmarks.evaluation.results import ModelSamples
from seppo_core.io.atomic import save_json
from seppo_core.io.rng import keyed_generator, keyed_permutation

FORMAT = 1
KIND = "seppo-ab-key"


@dataclass(frozen=True)
class Pair:
    """One comparison; `id` says nothing of the models."""

    id: str
    prompt_id: str
    prompt: str
    seed: int
    left: str
    """Model on the left."""
    right: str


@dataclass(frozen=True)
class Study:
    """A set of pairs. `first` and `second` of a comparison are in the order of the report's models."""

    id: str
    label: str
    models: tuple[str, ...]
    pairs: tuple[Pair, ...]
    identical: int = 0
    """Pairs left out because both models drew the same pixels: nobody could tell them apart."""

    def save(self, path: Path) -> None:
        content = {"format": FORMAT, "kind": KIND, **asdict(self)}
        save_json(path, content)

    @classmethod
    def load(cls, path: Path) -> "Study":
        """FileNotFoundError if there is no key, ValueError if the file is of another kind."""
        if not path.is_file():
            raise FileNotFoundError(f"no key at {path}; `ab make` writes it beside the page")
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("kind") != KIND or content.get("format") != FORMAT:
            raise ValueError(f"{path} is not the key of a study of format {FORMAT}")
        pairs = tuple(Pair(**pair) for pair in content["pairs"])
        return cls(content["id"], content["label"], tuple(content["models"]), pairs, content["identical"])


def draw_pairs(
    models: Sequence[ModelSamples], prompts: Sequence, seeds: Sequence[int], label: str, count: int, secret: int
) -> Study:
    """`count` prompts for every two models, drawn at random where both have a sample, on sides drawn at random.

    The draw is keyed by `secret`, which whoever votes should not know. Raises ValueError if there are no two models
    with a sample of one prompt.
    """
    found: list[Pair] = []
    identical = 0
    for first, second in combinations(models, 2):
        names = first.entry.name, second.entry.name
        places = [
            (row, at)
            for row in range(len(prompts))
            for at in _shuffled(range(len(seeds)), secret, "seed", row, *names)[:1]
            if first.hashes[row][at] is not None and second.hashes[row][at] is not None
        ]
        different = [(row, at) for row, at in places if first.hashes[row][at] != second.hashes[row][at]]
        identical += len(places) - len(different)
        for row, at in _shuffled(different, secret, "prompt", *names)[:count]:
            sides = names if _coin(secret, row, *names) else names[::-1]
            mark = sha256(f"{secret} {row} {at} {names}".encode()).hexdigest()[:12]
            found.append(Pair(mark, prompts[row].id, prompts[row].text, seeds[at], *sides))
    if not found:
        raise ValueError("no two models have different samples of one prompt; draw them with `quality run` first")
    order = _shuffled(found, secret, "order")
    study = sha256(json.dumps([pair.id for pair in order]).encode()).hexdigest()[:12]
    return Study(study, label, tuple(model.entry.name for model in models), tuple(order), identical)


def _shuffled(items: Sequence, *key: int | str) -> list:
    order = keyed_permutation(len(items), "ab", *key).tolist()
    return [items[i] for i in order]


def _coin(*key: int | str) -> bool:
    return bool(torch.randint(2, (), generator=keyed_generator("ab side", *key)))

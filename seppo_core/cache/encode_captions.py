"""Encodes captions into the rows of a cache's text shards, without trailing padding."""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

from seppo_core.cache.cut_captions import CutCaptions, joined
from seppo_core.cache.encode_items import as_stored
from seppo_core.cache.manifest import STARTS
from seppo_core.models.adapter import Adapter, Condition
from seppo_core.models.finite import is_finite
from seppo_core.models.text import TokenCount, counting_tokens

TEXT_BATCH = 32


class TextEncoder:
    """Encodes with the adapter's text encoders, in `dtype`.

    `lengths` names the tensors (b, tokens, d) whose trailing zeros are not stored, and their number of tokens. Zeros
    are padding that the family fills so, or that its denoiser never looks at (`Adapter.masked_text`): what is read back
    has them again, so that nothing is lost.
    """

    def __init__(self, adapter: Adapter, dtype: torch.dtype):
        self.adapter, self.dtype = adapter, dtype
        self.empty = self._encode([""])
        # no caption has more padding than the empty one
        self.lengths = {
            name: tensor.shape[1]
            for name, tensor in sorted(self.empty.items())
            if tensor.ndim == 3 and tensor.is_floating_point() and _used(tensor)[0] < tensor.shape[1]
        }

    @property
    def row_bytes(self) -> int:
        """Bytes of one caption at most."""
        return sum(tensor.nbytes for tensor in self.empty.values())

    def shard(self, captions: list[str], done: Callable[[int], None]) -> tuple[dict[str, Tensor], list[CutCaptions]]:
        """Encodes `captions`, and counts those that are cut, of which "" is none.

        `done` is called after every batch with the number of its captions.
        """
        batches, cut = [], []
        for at in range(0, len(captions), TEXT_BATCH):
            prompts = captions[at : at + TEXT_BATCH]
            with counting_tokens() as counts:
                batches.append(self._packed(self._one_shape(self._encode(prompts))))
            cut = joined([*cut, *self._cut(counts, prompts)])
            done(len(prompts))
        tensors = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        for name in self.lengths:
            # lengths become the position of each row's first token
            tensors[name + STARTS] = torch.tensor([0, *accumulate(tensors[name + STARTS].tolist())])
        return tensors, cut

    def _cut(self, counts: list[TokenCount], prompts: list[str]) -> list[CutCaptions]:
        """What each tokenizer cuts of `prompts`, which a family may have encoded one by one."""
        if not counts:
            return []
        names = {id(part): name for name, part in self.adapter.pipeline.components.items()}
        lengths: dict[str, list[tuple[int, int]]] = {}
        for one in counts:
            name = names.get(id(one.tokenizer), "tokenizer")
            lengths.setdefault(name, []).extend((tokens, one.limit) for tokens in one.tokens)
        found = []
        for name, pairs in lengths.items():
            each = [(*pair, prompt) for pair, prompt in zip(pairs, prompts, strict=True) if prompt]
            over = [(tokens, prompt) for tokens, limit, prompt in each if tokens > limit]
            longest = max(over, key=lambda pair: pair[0], default=(0, ""))
            if each:
                found.append(CutCaptions(name, each[0][1], len(each), len(over), *longest))
        return found

    def _encode(self, prompts: list[str]) -> Condition:
        condition = dict(self.adapter.encode_prompts(prompts))
        for name, mask in self.adapter.masked_text.items():
            # not a product: what is behind a mask need not be finite
            seen = condition[mask].bool().unsqueeze(-1)
            condition[name] = torch.where(seen, condition[name], torch.zeros_like(condition[name]))
        stored = {name: as_stored(tensor, self.dtype) for name, tensor in condition.items()}
        for name, tensor in stored.items():
            if is_finite(tensor):
                continue
            if is_finite(condition[name]):
                raise ValueError(f"text embeddings {name!r} overflow {self.dtype}; store them as bfloat16 or float32")
            which = next(prompt for prompt, row in zip(prompts, tensor, strict=True) if not is_finite(row))
            raise ValueError(
                f"the text encoder gives {name!r} that is not finite for the caption {which[:80]!r}; one in half "
                "precision may overflow: use model.dtype bfloat16 or float32, or leave that row out. What is encoded "
                "so far is kept"
            )
        return stored

    def _one_shape(self, condition: Condition) -> Condition:
        for name, tensor in condition.items():
            if name not in self.empty or tensor.shape[1:] != self.empty[name].shape[1:]:
                raise ValueError(
                    f"the text encoder gave {name!r} of shape {tuple(tensor.shape[1:])}, for the empty caption "
                    f"{ {key: tuple(value.shape[1:]) for key, value in self.empty.items()} }; pad prompts to one length"
                )
        return condition

    def _packed(self, condition: Condition) -> dict[str, Tensor]:
        """Replaces padded tensors by the tokens of all captions one after the other, and the number that each has."""
        packed = dict(condition)
        for name in self.lengths:
            used = _used(condition[name])
            packed[name] = torch.cat([tokens[:count] for tokens, count in zip(condition[name], used, strict=True)])
            packed[name + STARTS] = torch.tensor(used)
        return packed


def _used(tensor: Tensor) -> list[int]:
    """Number of tokens in each row of (b, tokens, d) up to the last that is not zero."""
    places = torch.arange(1, tensor.shape[1] + 1)
    return (tensor.ne(0).any(-1) * places).amax(1).tolist()

"""From prompts to CLIP's tokens, and how long they were before the end was cut off."""

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import CLIPTokenizerFast, PreTrainedTokenizerBase

from seppo_core.judging.weights import Source, locate

CLIP_TOKENS = 77
CLIP_VOCABULARY = (("vocab.json", "merges.txt"), ("tokenizer.json",))
CLIP_H_TOKENIZER = Source(
    part="tokenizer",
    hub="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    files=CLIP_VOCABULARY,
    size=1_400_000,
    licence="MIT",
)


class Prompts:
    """A tokenizer with the length at which prompts are cut; `clean` is applied before it."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        limit: int = CLIP_TOKENS,
        clean: Callable[[str], str] = str,
    ):
        self.tokenizer = tokenizer
        self.limit = limit
        self.clean = clean

    def ids(self, prompts: Sequence[str]) -> Int[Tensor, "n limit"]:
        """Token ids, all padded to the limit: the numbers do not depend on which prompts share a batch."""
        # the limit is passed on because a tokenizer built from bare files does not know one
        rows = self.tokenizer(
            [self.clean(prompt) for prompt in prompts],
            padding="max_length",
            truncation=True,
            max_length=self.limit,
        )
        return torch.tensor(rows["input_ids"])

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Number of tokens of each prompt with start and end marks, nothing cut off."""
        # verbose=False: the tokenizer warns of prompts over its own limit, which the caller is about to count
        rows = self.tokenizer([self.clean(prompt) for prompt in prompts], truncation=False, verbose=False)["input_ids"]
        return [len(row) for row in rows]


def clip_tokenizer(given: str | Path | None, source: Source) -> tuple[PreTrainedTokenizerBase, tuple[Path, ...]]:
    """CLIP's byte-pair tokenizer and the files it was read from; `given` is a folder or hub id, None the default."""
    files = locate(source, given)
    if files[0].name == "tokenizer.json":
        tokenizer = CLIPTokenizerFast(tokenizer_file=str(files[0]))
    elif len(files) == 2:
        tokenizer = CLIPTokenizerFast.from_pretrained(str(files[0].parent))
    else:
        raise ValueError(f"tokenizer={given!s} is one file; give the folder that has vocab.json and merges.txt")
    return tokenizer, files


def open_clip_clean(prompt: str) -> str:
    """Cleans a prompt as open_clip does before its tokenizer: mends the encoding, unescapes HTML, collapses, lowers.

    Mending is the work of the ftfy package; it changes nothing in plain ASCII without control characters and entities.
    Raises ModuleNotFoundError for another prompt if ftfy is not installed.
    """
    plain = prompt.isascii() and "&" not in prompt and all(c.isprintable() or c in "\t\n\r" for c in prompt)
    if not plain:
        try:
            import ftfy
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"the prompt {prompt[:60]!r} is not plain ASCII and is read through ftfy: pip install ftfy"
            ) from error
        prompt = ftfy.fix_text(prompt)
    prompt = html.unescape(html.unescape(prompt))
    return re.sub(r"\s+", " ", prompt).strip().lower()

"""What other tools leave in folders and tables, and captions that the encoders cannot hold."""

import json
from pathlib import Path

from seppo_core.io.locks import ReadersLock
from tests.bad_inputs.workspace import PREPARE, Case, after, options, rejected, rows, write_rows


def caption(text: str):
    return lambda: write_rows([rows()[0] | {"caption": text}, *rows()[1:]])


def cut() -> str:
    (found,) = json.loads(Path("new/manifest.json").read_text())["cut_captions"]
    return "{cut} of {captions} after {limit} tokens, {longest} has {tokens}".format(**found)


CASES = [
    Case("data", "a caption that is longer than the tokenizer reads", after(caption("a wall " * 900), *PREPARE),
         status=0, says=r"1 of 5 after 16 tokens, 0\.png has 4502", reads=cut),
    Case("data", "half an emoji in a caption", after(caption("a wall \ud83d"), *PREPARE), status=0,
         says="0.png.*surrogate", reads=rejected),
    Case("data", "a cache is made anew while a run learns from it", options("prepare", "--overwrite", "true"),
         says=r"read by a run \(process \d+.*data\.cache", around=lambda: ReadersLock(Path("cache/parts")).share()),
]  # fmt: skip

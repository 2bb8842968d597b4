"""`init`: a config to begin with. For one's own data, as a copy of a recipe, or with a tiny base and its winners.

init --list                      the recipes, each with its card, memory and hours
init toy [--out FOLDER]          a tiny base, its winners and the config of a run that improves it offline
init NAME --data FOLDER          a commented config for one's own data, NAME.yaml
init NAME --recipe RECIPE        a copy of a recipe
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from seppo_core.cli.next_steps import after_init
from seppo_core.cli.recipes import find_recipe, listing
from seppo_core.config.loader import Words
from seppo_core.config.messages import nearest
from seppo_core.config.schema import Config
from seppo_core.io.atomic import save_text

OPTIONS = ("data", "base", "method", "recipe", "out")
USAGE = """init --list
       {program} init toy [--out FOLDER]
       {program} init NAME --data FOLDER [--base BASE] [--method METHOD] [--recipe RECIPE]
       {program} init NAME --recipe RECIPE

--list     print the recipes that come with this program, each with its hardware, memory and hours
toy        lay out a tiny base with winners among its own samples, and a run that improves it without any download
--data     the captioned pictures or clips: whatever data.source takes; they are counted, and the size is theirs
--base     the model to align; the default is that of the smallest recipe
--method   the training method; seppo unless given
--recipe   a recipe to take everything else from; the default is that of the base or of its family
--out      the folder (toy) or the file to write; NAME and NAME.yaml unless given. Nothing is overwritten"""


def init(
    program: str, name: str | None, options: Mapping[str, Words], schema: type[Config], commands_module: str
) -> str:
    """Does what the words after `init` say; what is to be printed. ValueError or OSError, in one line, for a mistake.

    `name` is the word before all options, `options` the words after each.
    """
    modality = program.rpartition("-")[2]
    if "list" in options:
        if name is not None or len(options) > 1 or options["list"]:
            raise ValueError(f"init --list stands alone: {program} init --list")
        return listing(program, modality)
    given = {key: _one(program, key, words) for key, words in options.items()}
    if name is None:
        raise ValueError(f"init needs a name: {program} init toy, or {program} init mine --data FOLDER")
    if name == "toy":
        if more := sorted(given.keys() - {"out"}):
            raise ValueError(f"--{more[0]} is not for `init toy`, which brings its own; give another name")
        from seppo_core.cli.toy import CONFIG, lay_out

        out = Path(given.get("out", name))
        return f"{lay_out(out, modality, schema, commands_module)}\n{after_init(program, out / CONFIG, None)}"
    out = Path(given.pop("out", f"{name}.yaml"))
    if out.exists():
        raise FileExistsError(f"{out} exists already and is not overwritten; give another name, or --out")
    if "data" in given:
        from seppo_core.cli.own_config import write_config

        told, gpu = write_config(program, name, out, given, schema, commands_module)
        return f"{told}\n{after_init(program, out, gpu)}"
    if set(given) != {"recipe"}:
        raise ValueError(f"init {name} needs --data FOLDER, or --recipe NAME alone for a copy: {program} init --list")
    recipe = find_recipe(given["recipe"], modality)
    text = recipe.read_text(encoding="utf-8").replace(f"configs/{modality}/{recipe.name}", str(out))
    save_text(out, text)
    return f"{out}: a copy of the recipe {recipe.stem}; set data.source to your own\n{after_init(program, out, None)}"


def _one(program: str, key: str, words: Sequence[str]) -> str:
    if key not in OPTIONS:
        guess = nearest(key, [*OPTIONS, "list"])
        hint = f"did you mean --{guess}?" if guess else f"use --{', --'.join(OPTIONS)}"
        raise ValueError(f"--{key} is not an option of init; {hint}")
    if len(words) != 1:
        raise ValueError(f"--{key} takes one value, not {' '.join(words) or 'none'}: {program} init --help")
    return words[0]

"""The bad inputs: what is wrong with each, and what must be found in the answer.

Each file of this folder has a list `CASES`; a new file is found by itself. `GROUPS` are the sections of
docs/bad_inputs.md.
"""

import importlib
import pkgutil

GROUPS = ("base", "data", "config", "run", "disk", "signals", "evaluation")

CASES = sorted(
    (
        case
        for file in pkgutil.iter_modules(__path__)
        for case in importlib.import_module(f"{__name__}.{file.name}").CASES
    ),
    key=lambda case: GROUPS.index(case.group),
)

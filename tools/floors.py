"""Prints the least version of every dependency but torch, as pins for `pip install -c`: what `make floors` installs.

Reads pyproject.toml in the working folder; torch is pinned by constraints.txt.
"""

import re
import tomllib
from pathlib import Path

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<floor>[\w.]+)")


def pins(project: dict) -> list[str]:
    """`name==floor` of every requirement, those of the extras too. ValueError for one without a floor."""
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    found = {}
    for requirement in asked:
        match = REQUIREMENT.match(requirement)
        if match is None:
            raise ValueError(f"{requirement} names no least version; write {requirement}>=VERSION")
        found[match["name"]] = match["floor"]
    return [f"{name}=={floor}" for name, floor in sorted(found.items()) if name != "torch"]


if __name__ == "__main__":
    print("\n".join(pins(tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"])))

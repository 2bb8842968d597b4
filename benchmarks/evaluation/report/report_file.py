"""report.json: its version, and reading it back; loads nothing heavy."""

import json
from pathlib import Path

FORMAT = 1
KIND = "seppo-quality-report"


def read_report(path: Path) -> dict:
    """report.json of a folder or by its own path. FileNotFoundError, or ValueError for another kind or format."""
    file = path / "report.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no report.json; `quality report` makes one")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("format") != FORMAT:
        raise ValueError(f"{file} is no quality report of format {FORMAT}; make it anew with `quality report`")
    return content

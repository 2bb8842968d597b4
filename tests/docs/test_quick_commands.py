"""Commands of the documentation that need neither model nor data are run as they stand there."""

from pathlib import Path

import pytest

import seppo_image.__main__ as image
import seppo_video.__main__ as video
from tests.config.test_configs import command_line, shell_lines
from tests.docs.pages import PAGES, QUOTING, RECIPE, ROOT, text_of

MAIN = {"seppo-image": image.main, "seppo-video": video.main}
QUICK = (["--help"], ["--version"], ["init", "--list"])
LINES = sorted(
    {
        (program, *arguments)
        for page in PAGES
        if page not in QUOTING
        for line in shell_lines(text_of(page))
        if (found := command_line(line)) is not None
        for program, arguments in [found]
        if program in MAIN and arguments in QUICK
    }
)


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_quick_command_answers(line, capsys):
    program, *arguments = line
    assert MAIN[program](arguments) == 0
    assert capsys.readouterr().out


def test_a_recipe_is_planned_from_its_stored_count(monkeypatch, capsys):
    """As docs/memory.md has it."""
    command = "seppo-image plan CONFIG --gpu rtx4090 --items 20000"
    assert f"`{command}`" in text_of(Path("docs/memory.md"))
    monkeypatch.chdir(ROOT)
    assert image.main(command.replace("CONFIG", RECIPE).split()[1:]) == 0
    assert "fits" in capsys.readouterr().out

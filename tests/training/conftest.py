"""A run that nothing disturbed, to hold the others against."""

import pytest

from seppo_image import commands


@pytest.fixture(scope="session")
def whole_run(workshop, tmp_path_factory):
    """Folder of a finished run of the workshop's config; not to be written to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    commands.train(workshop.config(run))
    return run

"""What is left out of libraries' lines, and what is not."""

import logging

import seppo_core  # noqa: F401


def test_only_transformers_lines_about_torchvision_are_left_out():
    logger = logging.getLogger("transformers.utils.import_utils")
    say = lambda text: logger.filter(logger.makeRecord(logger.name, logging.WARNING, "", 0, text, (), None))  # noqa: E731
    assert not say("`CLIPImageProcessor` requires torchvision (not installed); falling back to `CLIPImageProcessorPil`")
    assert say("Some weights of the model checkpoint were not used")

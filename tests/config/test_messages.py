"""What a message says of a name that is not there."""

from typing import Literal

from seppo_core.config.messages import describe, similar_path


def test_what_is_there_is_not_suggested_for_itself(tmp_path):
    (tmp_path / "base").symlink_to("nowhere")
    (tmp_path / "cache").touch()
    assert similar_path(tmp_path / "base" / "unet") == f"; {tmp_path / 'base'} is a link to nowhere, which is not there"
    assert similar_path(tmp_path / "cache") == ""
    assert similar_path(tmp_path / "cahce") == f"; did you mean {tmp_path / 'cache'}?"


def test_a_choice_without_a_value_is_described_without_a_guess():
    words = Literal["constant", "linear", "cosine"]
    assert describe(words) == "one of constant, linear, cosine"
    assert describe(words, "cosin") == "one of constant, linear, cosine; did you mean cosine?"

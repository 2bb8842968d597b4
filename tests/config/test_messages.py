"""What a message says of a name that is not there."""

from seppo_core.config.messages import similar_path


def test_what_is_there_is_not_suggested_for_itself(tmp_path):
    (tmp_path / "base").symlink_to("nowhere")
    (tmp_path / "cache").touch()
    assert similar_path(tmp_path / "base" / "unet") == f"; {tmp_path / 'base'} is a link to nowhere, which is not there"
    assert similar_path(tmp_path / "cache") == ""
    assert similar_path(tmp_path / "cahce") == f"; did you mean {tmp_path / 'cache'}?"

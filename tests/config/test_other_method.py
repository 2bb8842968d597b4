"""A file of one method, run with another that the command line names."""

import pytest

from seppo_core.config.loader import load_config
from seppo_image.config import ImageConfig


def test_an_option_that_names_another_method_leaves_out_what_the_file_says_of_its_own(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("run: r\nmodel: {base: b}\ndata: {source: s, cache: c}\nmethod: {flipper: indicator, beta: 7}\n")
    changed = load_config(path, ImageConfig, {"method.name": "dpo"}).method
    assert (changed.name, changed.beta) == ("dpo", 7) and not hasattr(changed, "flipper")
    # what the options say themselves, and what a file says of the method that it names, is checked as ever
    with pytest.raises(ValueError, match=r"method\.flipper='indicator' has no meaning"):
        load_config(path, ImageConfig, {"method.name": "dpo", "method.flipper": "indicator"})
    path.write_text(path.read_text().replace("{flipper", "{name: dpo, flipper"))
    with pytest.raises(ValueError, match=r"method\.flipper='indicator' has no meaning"):
        load_config(path, ImageConfig, {"method.name": "dpo"})

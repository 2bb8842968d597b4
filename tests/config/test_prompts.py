"""Prompts are anybody's text, also such as the reader of configs takes for more than a text."""

import json

import yaml

from seppo_core.config.loader import Words, load_config, resolved_yaml
from seppo_image.config import ImageConfig
from tests.config.test_config import LEAST, refusal, write

PROMPTS = ("a poster that reads ${title}", "it costs ${5", "$${a.b}", "\\${x} \\\\${y}", "${oc.env:HOME}")


def test_prompts_may_hold_what_omegaconf_takes_for_a_reference(tmp_path):
    """Captions are anybody's; what is expected is what plain YAML and JSON read."""
    text = LEAST + "preview:\n  prompts:\n" + "".join(f"    - {json.dumps(prompt)}\n" for prompt in PROMPTS)
    assert tuple(yaml.safe_load(text)["preview"]["prompts"]) == PROMPTS
    config = load_config(write(tmp_path, text), ImageConfig)
    assert config.preview.prompts == PROMPTS
    # a run's folder holds it in this form, and an option of the command line in that
    stored = resolved_yaml(config)
    assert tuple(yaml.safe_load(stored)["preview"]["prompts"]) == PROMPTS
    assert load_config(write(tmp_path, stored), ImageConfig) == config
    given = load_config(write(tmp_path, LEAST), ImageConfig, {"preview.prompts": Words(PROMPTS)})
    assert given == config
    # no other key may
    message = refusal(tmp_path, text.replace("run: r", "run: ${seed}"))
    assert message == "run='${seed}' refers to another key, which is not supported; repeat the value"
    assert refusal(tmp_path, LEAST + "preview: {prompts: '${x}'}").startswith("preview.prompts='${x}' should be a list")

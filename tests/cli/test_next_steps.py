"""What every command names as the next one, with the words that it needs."""

from pathlib import Path
from types import SimpleNamespace

from seppo_core.cli import next_steps
from seppo_core.cli.main import parse
from seppo_core.config.options import ExportRequest, RankRequest, SampleRequest
from seppo_image.config import ImageConfig

LEAST = "run: r\nmodel: {base: a/b}\ndata: {source: s, cache: c}\noptimizer: {lr: 1e-6}\n"
FITS, TOO_LARGE = SimpleNamespace(fits=True), SimpleNamespace(fits=False)


def test_the_next_command_keeps_what_changed_the_config_and_no_option_of_the_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my file.yaml").write_text(LEAST)
    words = ["plan", "my file.yaml", "--gpu", "h100", "--method.beta", "10", "--preview.prompts", "a fox", "b"]
    invocation = parse(words, "seppo-image", ImageConfig)
    told = next_steps.after_plan("seppo-image", invocation.words, FITS)
    assert told == ("next: seppo-image prepare 'my file.yaml' --method.beta 10 --preview.prompts 'a fox' b")
    following = told.removeprefix("next: ").replace("'", "")
    assert "--gpu" not in following


def test_each_command_names_its_own_next():
    program, words, config = "seppo-image", ("x.yaml",), SimpleNamespace(run="runs/x")
    ranked = RankRequest(judge="m:f", supervision="pairs")
    cases = {
        next_steps.after_init(program, Path("x.yaml"), "rtx4090"):
            "next: seppo-image plan x.yaml --gpu rtx4090, then prepare and train with the same file",
        next_steps.after_plan(program, words, TOO_LARGE):
            "next: change what the first notes name, then seppo-image plan x.yaml again",
        next_steps.after_preparing(program, words): "next: seppo-image train x.yaml",
        next_steps.after_sampling(program, words, config, SampleRequest(checkpoint="base")):
            "next: seppo-image train x.yaml",
        next_steps.after_sampling(program, words, config, SampleRequest(checkpoint="60")):
            "next: seppo-image export x.yaml --checkpoint 60; beside the start's: "
            "seppo-image compare runs/x:base runs/x:60",
        next_steps.after_export(Path("o"), ExportRequest()):
            f"next: {Path('o/README.md')} has the Python that loads it; `hf upload OWNER/NAME o` puts it on the Hub",
        next_steps.after_export(Path("o"), ExportRequest(format="comfyui")):
            f"next: {Path('o/README.md')} says where ComfyUI takes it from",
        next_steps.after_ranking(program, words, Path("o"), ranked):
            "next: seppo-image prepare x.yaml --data.source o --data.supervision pairs --data.cache o-cache "
            "--run o-run",
    }  # fmt: skip
    assert all(told == expected for told, expected in cases.items())


def test_what_was_compared_is_exported(tmp_path):
    (tmp_path / "config.yaml").touch()
    told = next_steps.after_comparing("seppo-image", ["other", f"{tmp_path}:best"])
    config = tmp_path / "config.yaml"
    assert told == f"next: seppo-image export {config} --checkpoint best, or with the run that looks better"

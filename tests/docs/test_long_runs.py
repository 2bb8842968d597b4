"""What `tools.long_runs` makes of runs: means before every checkpoint, a JSON and two figures."""

import json

import pytest

from tools import long_runs

BETAS = (1.0, 10.0)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Metrics in place of training: every metric is the update times beta."""
    monkeypatch.setattr(long_runs, "BETAS", BETAS)
    monkeypatch.setattr(long_runs, "RESULT", tmp_path / "result.json")
    monkeypatch.setattr(long_runs, "FIGURES", tmp_path)

    def train(folder, beta):
        run = folder / f"beta_{beta:g}"
        run.mkdir(parents=True)
        lines = [{"update": at} | dict.fromkeys(long_runs.SHOWN, at * beta) for at in range(1, long_runs.UPDATES + 1)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    monkeypatch.setattr(long_runs, "train", train)
    # iterations end between the checkpoints that were asked for, and leave one too
    ends = range(long_runs.EVERY // 2, long_runs.UPDATES + 1, long_runs.EVERY // 2)
    monkeypatch.setattr(long_runs, "scores", lambda run: [(end, end / 1000) for end in ends])
    return tmp_path


def test_metrics_are_means_before_every_checkpoint(runs, capsys):
    long_runs.main(runs / "runs")
    found = json.loads((runs / "result.json").read_text())["runs"]
    assert [one["beta"] for one in found] == list(BETAS)
    for one in found:
        for line in one["metrics"]:
            # of an arithmetic series, half a window before its end
            middle = line["update"] - (long_runs.WINDOW - 1) / 2
            assert line["sample_error"] == pytest.approx(one["beta"] * middle)
    assert len(found[0]["metrics"]) == len(found[0]["scores"]) == 2 * long_runs.UPDATES // long_runs.EVERY
    assert capsys.readouterr().out.count("score ") == 2 * len(found[0]["scores"])
    for name in ("score", "sample_error"):
        assert "beta 10" in (runs / f"long_{name}.svg").read_text()

"""Planted faults fire their gates, healthy runs fire none, and a gate's memory survives a resume."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from seppo_core.config.method import MethodConfig
from seppo_core.config.methods.dpo import DpoConfig
from seppo_core.config.methods.kto import KtoConfig
from seppo_core.config.methods.seppo import SeppoConfig
from seppo_core.config.methods.spin import SpinConfig
from seppo_core.config.methods.sspo import SspoConfig
from seppo_core.config.monitoring import HealthConfig
from seppo_core.io.rng import keyed_generator
from seppo_core.run.health import Health, UnhealthyRun

torch = pytest.importorskip("torch")
UPDATES = 150
BATCH = 32


def run_of(updates: int = UPDATES, seed: int = 0) -> list[dict]:
    """Metrics as the toy's SePPO run logs them: errors of one pair spread as widely as their mean."""
    generator = keyed_generator("metrics", seed)
    lines = []
    for update in range(1, updates + 1):
        # squared errors over uniform timesteps: about exponential, averaged over the batch
        errors = torch.empty(BATCH).exponential_(generator=generator) * 0.17
        plus = torch.rand(BATCH, generator=generator) < 0.6
        lines.append(
            {
                "update": update,
                "loss": 0.69 + 0.02 * torch.randn((), generator=generator).item(),
                "winner_error": errors.mean().item(),
                "winner_gap": 0.01 * torch.randn((), generator=generator).item(),
                # the base is the reference of the first iteration, and now and then of a later one
                "reference": 0 if update <= 30 or 90 < update <= 120 else 1,
                "margin": 0.2 * torch.randn((), generator=generator).item(),
                "share_s_plus": plus.float().mean().item(),
                "grad_norm": 0.5 + torch.rand((), generator=generator).item(),
                # one value an iteration, as 64 samples give it
                "sample_variance": 0.9 + 0.05 * math.sin(update // 30),
            }
        )
        if update % 10 == 0:
            held_out = {"held_out_error": 0.17 - update / 10_000, "held_out_start": 0.17, "held_out_noise": 0.004}
            lines[-1] |= held_out
    return lines


def gates(config: HealthConfig | None = None, method: MethodConfig | None = None, batch: int = BATCH) -> Health:
    return Health.of(config or HealthConfig(), method or SeppoConfig(), batch)


def alarms(lines: list[dict], health: Health | None = None) -> list:
    health = health or gates()
    for line in lines:
        health.look(line)
    return health.alarms


def planted(since: int, change, lines: list[dict] | None = None) -> list[dict]:
    """A healthy run whose updates from `since` on are changed."""
    return [line if line["update"] < since else line | change(line) for line in lines or run_of()]


def worse(line: dict, times: float) -> dict:
    """The policy's error grows, the reference's on the same draws does not."""
    error = line["winner_error"]
    return {"winner_error": times * error, "winner_gap": (times - 1) * error + line["winner_gap"]}


FAULTS = {
    "non_finite": (60, lambda line: {"loss": None, "grad_norm": math.inf}),
    "winner_error": (60, lambda line: worse(line, 2.5)),
    "margin": (60, lambda line: {"margin": 9.0 + line["margin"]}),
    "held_out": (60, lambda line: {"held_out_error": 0.25, "held_out_start": 0.17, "held_out_noise": 0.02}),
    "constant_sign": (60, lambda line: {"share_s_plus": 1.0}),
    "sample_collapse": (60, lambda line: {"sample_variance": 0.2}),
}


@pytest.mark.parametrize("seed", range(20))
def test_healthy_runs_fire_none(seed):
    assert alarms(run_of(seed=seed)) == []
    # small batches are noisier and are no fault either
    assert alarms(run_of(seed=seed), gates(batch=2)) == []


TOY = json.loads(Path(__file__).with_name("toy_runs.json").read_text())
"""Recorded from `make demo`: what real timesteps and a real model do to these numbers."""


@pytest.mark.parametrize("run", [name for name in TOY if not name.endswith("anchor_off")])
def test_the_demo_s_runs_fire_none(run):
    columns = TOY[run]
    lines = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert alarms([{"update": number, **line} for number, line in enumerate(lines, 1)]) == []


@pytest.mark.parametrize("run", ["image/anchor_off", "video/anchor_off"])
def test_the_demo_s_collapse_is_seen(run):
    """Without its anchor the toy falls far below its base: both gates that can see it do, before half of the run."""
    columns = TOY[run]
    lines = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    health = gates(method=SeppoConfig(flipper="off"))
    found = alarms([{"update": number, **line} for number, line in enumerate(lines, 1)], health)
    assert {alarm.gate for alarm in found} == {"winner_error", "margin"}
    assert all(alarm.update <= len(lines) / 2 for alarm in found[:2])


@pytest.mark.parametrize("gate", FAULTS)
def test_a_planted_fault_fires_its_gate_and_no_other(gate):
    since, change = FAULTS[gate]
    found = alarms(planted(since, change))
    assert [alarm.gate for alarm in found] == [gate]
    (alarm,) = found
    assert since <= alarm.update <= since + 60, "it takes a window or two, not the whole run"
    # winner_error and margin average over a window, which may begin shortly before the fault
    assert since - 20 <= alarm.since <= alarm.update
    assert len(alarm.saw) > 20 and alarm.advice.endswith(".")
    assert f"since update {alarm.since}" in str(alarm)


@pytest.mark.parametrize("since", [1, 2, 5, 11, 20])
@pytest.mark.parametrize("iteration", [5, 30])
def test_a_run_that_is_ruined_at_once_is_held_against_the_base(since, iteration):
    """Its own first updates are no measure then; the reference's errors of the first iteration are."""
    lines = [line | {"reference": 0 if line["update"] <= iteration else 1} for line in run_of()]
    found = alarms(planted(since, lambda line: worse(line, 2.5), lines))
    assert [alarm.gate for alarm in found] == ["winner_error"]
    assert found[0].update <= since + 25 and "of the base" in found[0].saw


def test_without_a_reference_the_first_updates_stand_for_the_base():
    plain = [{name: line[name] for name in ("update", "loss", "winner_error", "grad_norm")} for line in run_of()]
    assert alarms(plain) == []
    found = alarms(planted(60, lambda line: {"winner_error": 2.5 * line["winner_error"]}, plain))
    assert [alarm.gate for alarm in found] == ["winner_error"] and "of the first 20 updates" in found[0].saw


def test_desirable_items_of_kto_are_held_against_the_base_too():
    """Its metrics are parts of a mean over all items: half of them desirable, in one batch none."""

    def kto(line: dict) -> dict:
        rest = {name: value for name, value in line.items() if name not in ("winner_error", "winner_gap")}
        share = 0.0 if line["update"] == 7 else 0.5
        parts = {"desirable_error": share * line["winner_error"], "desirable_gap": share * line["winner_gap"]}
        return rest | parts | {"share_desirable": share}

    method = KtoConfig()
    assert alarms([kto(line) for line in run_of()], gates(method=method)) == []
    ruined = [kto(line) for line in planted(3, lambda line: worse(line, 2.5))]
    assert [alarm.gate for alarm in alarms(ruined, gates(method=method))] == ["winner_error"]


@pytest.mark.parametrize("gate", FAULTS)
def test_the_switch_turns_a_gate_off(gate):
    off = replace(HealthConfig(), **{gate: "off"})
    assert alarms(planted(*FAULTS[gate]), gates(off)) == []


@pytest.mark.parametrize("gate", FAULTS)
def test_the_action_stop_names_what_to_do(gate):
    health = gates(replace(HealthConfig(), **{gate: "stop"}))
    for line in planted(*FAULTS[gate]):
        health.look(line)
        if health.fatal:
            break
    assert health.fatal.gate == gate
    assert f"--health.{gate} warn" in str(UnhealthyRun(health.fatal))


@pytest.mark.parametrize("gate", FAULTS)
@pytest.mark.parametrize("cut", [1, 45, 61, 75, 149])
def test_a_resume_sees_the_same_alarms(gate, cut):
    """The memory is the metrics so far, read back from JSON."""
    lines = planted(*FAULTS[gate])
    whole = alarms(lines)
    written = [
        json.dumps({k: v if v is None or math.isfinite(v) else None for k, v in line.items()}) for line in lines[:cut]
    ]
    resumed = Health.of(HealthConfig(), SeppoConfig(), BATCH, [json.loads(line) for line in written])
    assert resumed.alarms == whole[: len(resumed.alarms)]
    for line in lines[cut:]:
        resumed.look(line)
    assert resumed.alarms == whole


def test_a_single_skipped_update_is_no_alarm_and_ten_in_a_row_stop():
    skipped = {"loss": None, "grad_norm": None}
    # the scale of fp16 settles at the start, and now and then
    lines = [line | (skipped if line["update"] in (1, 2, 3, 4, 50, 51) else {}) for line in run_of()]
    assert alarms(lines) == []
    health = gates()
    found = [(line["update"], health.look(line)) for line in planted(60, lambda _: skipped)]
    assert [update for update, new in found if new] == [69]
    assert health.fatal.since == 60
    assert "10 updates in a row" in health.fatal.saw


def test_a_fault_that_passes_is_told_once_and_again_when_it_comes_back():
    share = {"share_s_plus": 0.0}
    broken = [line | (share if line["update"] in range(30, 70) or line["update"] > 110 else {}) for line in run_of()]
    health = gates()
    found = alarms(broken, health)
    assert [(alarm.update, alarm.since) for alarm in found] == [(49, 30), (130, 111)]
    assert [alarm.gate for alarm in health.standing] == ["constant_sign"]
    assert "never +1" in found[0].saw


def test_a_value_that_wavers_about_its_limit_is_one_alarm():
    lines = planted(40, lambda line: {"margin": 5.0 + 3 * math.sin(line["update"] / 2)})
    assert [alarm.gate for alarm in alarms(lines)] == ["margin"]


def test_few_signs_that_agree_are_no_fault():
    """Two pairs an update, nine of ten won: twenty updates in a row often agree."""
    plus = FAULTS["constant_sign"][1]
    (alarm,) = alarms(planted(60, plus, run_of(250)), gates(batch=2))
    assert alarm.update == 60 + 256 // 2 - 1
    assert alarms(planted(60, plus, run_of(250)), gates(batch=1)) == []


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (SeppoConfig(), True),
        (SeppoConfig(flipper="indicator"), True),
        (SspoConfig(), True),
        (SeppoConfig(flipper="off"), False),
        (DpoConfig(), False),
        (SpinConfig(), False),
    ],
)
def test_s_is_watched_where_it_is_decided(method, told):
    """With flipper off, and where the method has no anchor, s is +1 by definition."""
    assert bool(alarms(planted(1, FAULTS["constant_sign"][1]), gates(method=method))) is told


def test_the_first_update_of_every_iteration_may_be_a_tie():
    """reference: latest makes policy and reference equal there, so that every s is −1."""
    ties = [line | ({"share_s_plus": 0.0} if line["update"] % 15 == 1 else {}) for line in run_of()]
    assert alarms(ties) == []


def test_methods_without_a_metric_are_not_looked_at_for_it():
    only = [{"update": line["update"], "loss": 0.1, "winner_error": 0.2, "grad_norm": 1.0} for line in run_of()]
    assert alarms(only) == []


def test_samples_that_are_not_finite_are_a_collapse():
    (alarm,) = alarms(planted(60, lambda _: {"sample_variance": None}))
    assert (alarm.gate, alarm.update, alarm.saw) == ("sample_collapse", 60, "the reference's samples are not finite")


def test_a_ruin_from_the_first_update_on_is_held_against_the_measured_start():
    """As SFT at ten times its rate on the toy: the first window is as bad as the rest."""
    plain = [{name: line[name] for name in ("update", "loss", "winner_error", "grad_norm")} for line in run_of()]
    start = plain[0] | {"start_error": 0.17, "start_noise": 0.015}
    assert alarms([start, *plain[1:]]) == []
    ruined = planted(2, lambda line: {"winner_error": 2.5 * line["winner_error"]}, [start, *plain[1:]])
    (alarm,) = alarms(ruined)
    assert (alarm.gate, "of the base" in alarm.saw) == ("winner_error", True) and alarm.update <= 22


def test_an_error_on_held_out_items_that_rises_again_is_seen():
    """Measured every tenth update; in between nothing is known to have changed."""

    def held_out(lines, error, noise=0.002):
        every = {"held_out_start": 0.1, "held_out_noise": noise}
        return [
            line | ({"held_out_error": error(line["update"]), **every} if line["update"] % 10 == 0 else {})
            for line in lines
        ]

    # down to 0.08 until update 60, then up by 0.001 an update
    bent = lambda update: 0.1 - update / 3000 if update <= 60 else 0.08 + (update - 60) / 1000  # noqa: E731
    (alarm,) = alarms(held_out(run_of(), bent))
    assert (alarm.gate, alarm.update, alarm.since) == ("held_out", 80, 60)
    assert "0.08 after update 60" in alarm.saw
    health = gates()
    alarms(held_out(run_of(), bent), health)
    assert [alarm.gate for alarm in health.standing] == ["held_out"]
    # within what so few items tell, or no more than a fifth: no fault
    assert alarms(held_out(run_of(), bent, noise=0.05)) == []
    assert alarms(held_out(run_of(), lambda update: 0.1 + update / 10_000)) == []


def test_good_updates_between_skipped_ones_are_no_cure():
    skipped = {"loss": None, "grad_norm": None}
    lines = [line | (skipped if line["update"] > 60 and line["update"] % 10 else {}) for line in run_of()]
    found = alarms(lines)
    assert [(alarm.gate, alarm.since) for alarm in found] == [("non_finite", 61)]
    assert found[0].update <= 72 and "10 of the latest 11 updates" in found[0].saw


def test_a_margin_far_below_zero_is_seen():
    (alarm,) = alarms(planted(1, lambda line: {"margin": -50.0 + line["margin"]}))
    assert alarm.gate == "margin" and alarm.update == 20 and "the wrong way" in alarm.saw
    # without a reference there is no zero: MaPO's pairs may be told apart, or not, by the base already
    plain = [{name: value for name, value in line.items() if name != "reference"} for line in run_of()]
    assert alarms(planted(1, lambda line: {"margin": -8.0 + line["margin"]}, plain)) == []
    assert alarms(planted(60, lambda line: {"margin": -12.0 + line["margin"]}, plain))[0].gate == "margin"


def test_samples_that_blow_up_are_seen():
    (alarm,) = alarms(planted(60, lambda line: {"sample_variance": 50 * line["sample_variance"]}))
    assert (alarm.gate, alarm.update) == ("sample_collapse", 60)


def test_signs_that_agree_but_for_the_tie_at_each_start_are_seen():
    def stuck(line):
        tie = line["update"] % 15 == 1
        return {"share_s_plus": 0.0 if tie else 1.0, "gap_size": 0.0 if tie else 0.1}

    (alarm,) = alarms(planted(32, stuck))
    assert (alarm.gate, alarm.since) == ("constant_sign", 32) and alarm.update <= 55


def test_improvement_is_no_fault():
    better = planted(40, lambda line: {"winner_error": 0.3 * line["winner_error"], "sample_variance": 2.0})
    assert alarms(better) == []


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"window": 1}, "health.window=1 must be at least 2"),
        ({"winner_error_rise": 0.0}, "health.winner_error_rise=0.0 must be greater than 0"),
        ({"sample_collapse_share": 2.0}, "health.sample_collapse_share=2.0 is a share"),
    ],
)
def test_config_is_checked(values, text):
    with pytest.raises(ValueError, match=text.replace(".", r"\.")):
        HealthConfig(**values)

"""`plan --fit`, and what weights in fewer bits or on the CPU take and cost, on stored counts: no torch is needed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seppo_core.config.gpus import GIB, GPUS
from seppo_core.config.loader import load_config
from seppo_core.config.options import PlanRequest
from seppo_core.plan import fit, host, suggestions
from seppo_core.plan.counts import costs_of
from seppo_core.plan.estimate import make_plan
from seppo_core.plan.fit import candidates, propose
from seppo_core.plan.memory import EXCHANGED, memory
from seppo_core.plan.report import print_plan
from seppo_core.plan.suggestions import cures
from seppo_image.config import ImageConfig
from seppo_video.config import VideoConfig

FLUX = str(Path(__file__).parents[2] / "configs/image/flux_dev_lora_seppo.yaml")
ON_24 = PlanRequest(gpu="rtx4090", items=20000, fit=True)


@pytest.fixture(scope="module")
def config():
    return load_config(FLUX, ImageConfig)


def with_model(config, **values):
    return replace(config, model=replace(config.model, **values))


def test_the_proposal_fits_and_is_the_cheapest(config):
    found = propose(config, ON_24)
    assert not found.before.fits and found.plan.fits
    # blocks from the CPU come while others compute, and round nothing
    assert found.changes == {"model.offload": True}
    costs, room = costs_of(config), GPUS["rtx4090"].memory
    for changes, changed in candidates(config, costs):
        held = max(sum(parts.values()) for parts in memory(changed, costs, 1, room).values())
        if held <= room:
            hours = make_plan(changed, ON_24).hours.total
            assert hours * 1.05 >= found.plan.hours.total, changes


def test_a_run_that_fits_stays_and_one_that_cannot_is_told(config, capsys):
    request = replace(ON_24, gpu="h200")
    assert propose(config, request).changes == {}
    print_plan(config, request)
    assert capsys.readouterr().out.startswith("proposal: it fits as it is\n\nfits: ")
    print_plan(config, replace(ON_24, gpu="rtx3080", host_memory=4))
    assert capsys.readouterr().out.startswith("proposal: no set of these settings makes it fit")


def test_smaller_batches_are_proposed_where_they_are_all_that_is_needed():
    sdxl = load_config(str(Path(FLUX).with_name("sdxl_lora_seppo.yaml")), ImageConfig)
    found = propose(sdxl, replace(ON_24, gpu="rtx3080"))
    assert found.changes == {"preview.batch_size": 1} and found.plan.fits and not found.before.fits


def test_a_batch_of_one_becomes_no_smaller(config, monkeypatch):
    on_10, counted = replace(ON_24, gpu="rtx3080"), costs_of(config)
    monkeypatch.setattr(fit, "costs_of", lambda config: counted)
    monkeypatch.setattr(fit, "counted_again", lambda *configs: counted)
    for per_prompt, batches in ((4, {"preview.batch_size": 1}), (1, {})):
        # nothing else makes it fit
        answers = iter([None, ({}, make_plan(config, on_10))])
        monkeypatch.setattr(fit, "_proposed", lambda *asked, answers=answers: next(answers))
        one = replace(config, preview=replace(config.preview, per_prompt=per_prompt))
        assert propose(one, on_10).changes == {"reference_samples.batch_size": 1} | batches


def test_it_is_said_in_words_and_as_json(config, capsys):
    print_plan(config, ON_24)
    out = capsys.readouterr().out
    assert "\n  model.offload: true\n" in out and "instead of" in out
    print_plan(config, replace(ON_24, json=True))
    content = json.loads(capsys.readouterr().out)
    assert content["fit"] == {"model.offload": True} and content["hours_as_it_is"] <= content["hours_in_all"]


def test_a_plan_that_does_not_fit_names_what_may(config):
    """The notes' own settings do not help here, and those of `--fit` do."""
    plain = replace(ON_24, fit=False)
    (note,) = [one for one in make_plan(config, plain).notes if one.startswith("no setting")]
    assert "`plan --fit` tries" in note and propose(config, ON_24).plan.fits
    assert "--fit" not in cures(config, costs_of(config), GPUS["rtx3080"], 1, fitted=True)[0]


@pytest.mark.parametrize("gpu", ["v100", "rtx4090"])
def test_beside_a_fused_step_notes_and_proposals_are_what_the_schema_allows(config, gpu, monkeypatch):
    changed = replace(config, loop=replace(config.loop, mixed_precision="no"))
    changed = replace(changed, optimizer=replace(config.optimizer, fused=True))
    proposed = [changes for changes, _ in candidates(changed, costs_of(config)) if "optimizer.name" in changes]
    assert proposed and all(changes["optimizer.fused"] is False for changes in proposed)
    for change in suggestions.changes(GPUS[gpu], 1):
        changed = change(changed)
    assert (changed.optimizer.name, changed.optimizer.fused) == ("adamw8bit", False)
    assert changed.loop.mixed_precision == ("fp16" if gpu == "v100" else "bf16")
    # one that it refuses is passed over
    refused = lambda config: replace(config, loop=replace(config.loop, batch_size=0))  # noqa: E731
    monkeypatch.setattr(suggestions, "changes", lambda gpu, gpus: [refused])
    assert cures(config, costs_of(config), GPUS["rtx3080"], 1)[0].startswith("no setting that was tried")


@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4.127), ("int8", 8), ("int8wo", 8), ("float8wo", 8)])
def test_memory_of_a_base_in_fewer_bits(config, kind, bits):
    costs = costs_of(config)
    matrices = costs.weights.matrices["transformer"]
    # 11.9 billion numbers, nearly all in matrices of blocks
    assert 0.98 < matrices.numbers / costs.weights.parameters < 1 and matrices.weights == 2 * matrices.numbers
    held = memory(with_model(config, quantize=kind), costs, 1)["training"][f"policy, {kind}"]
    rest = costs.weights.base - 2 * matrices.numbers
    assert held == pytest.approx(rest + matrices.numbers * bits / 8, rel=0.003)
    texts = memory(with_model(config, quantize_text=kind), costs, 1)["prepare"]
    assert texts[f"text_encoder_2, {kind}"] < costs.weights.texts["text_encoder_2"]
    # a CLIP stays as it is
    assert texts["text_encoder, bfloat16"] == costs.weights.texts["text_encoder"]


def test_a_matrix_in_full_is_counted_in_the_run_s_precision(config):
    costs = costs_of(config)
    largest = costs.weights.matrices["transformer"].largest
    few = with_model(config, quantize="nf4")
    whole = replace(few, model=replace(few.model, dtype="float32"), loop=replace(few.loop, mixed_precision="no"))
    for changed, each in ((few, 2), (whole, 4)):
        assert memory(changed, costs, 1)["training"]["a matrix in full"] == each * largest


def test_memory_of_blocks_on_the_cpu(config):
    costs = costs_of(config)
    offloaded = with_model(config, offload=True)
    held = memory(offloaded, costs, 1)["training"]["policy, bfloat16"]
    assert held == costs.weights.outside.weights + 2 * costs.weights.block.weights < 2 * GIB
    host = make_plan(offloaded, ON_24).host - make_plan(config, ON_24).host
    assert host == costs.weights.base - costs.weights.outside.weights


def test_hours_of_what_moves_by_hand(config):
    """Flux in nf4 on a 4090: 11.8e9 numbers read as half a byte and written as two, at 1008 GB/s, four times a
    micro-batch (policy, reference, recomputed, backward) and once a solver step."""
    costs = costs_of(config)
    plan = make_plan(with_model(config, quantize="nf4"), ON_24)
    each = costs.weights.matrices["transformer"].numbers * 2.5 / 1008e9
    loop = config.loop
    micro_batches = loop.iterations * loop.updates_per_iteration * loop.batch_size / loop.micro_batch_size
    solver_steps = plan.counts.generated * config.reference_samples.steps / config.reference_samples.batch_size
    assert config.loop.gradient_checkpointing and not costs.guided
    assert plan.hours.moving == pytest.approx(each * (4 * micro_batches + solver_steps) / 3600, rel=1e-3)
    # a link so slow that nothing hides it: three fetches a micro-batch
    slow = replace(GPUS["rtx4090"], link=0.01)
    fetched = (costs.weights.base - costs.weights.outside.weights) / 1e7
    from seppo_core.plan.moving import moving

    taken = moving(with_model(config, offload=True), costs, slow, plan.counts, ON_24)
    assert taken == pytest.approx(fetched * (3 * micro_batches + solver_steps), rel=0.05)


def test_an_item_over_several_gpus_by_hand(config):
    costs = costs_of(config)
    two = replace(config, loop=replace(config.loop, context_parallel=2))
    whole, halves = (memory(one, costs, 2) for one in (config, two))
    for phase in ("training", "generation", "previews"):
        assert halves[phase]["activations"] == -(-whole[phase]["activations"] // 2), phase
        rest = {name: size for name, size in whole[phase].items() if name != "activations"}
        assert rest == {n: size for n, size in halves[phase].items() if n not in ("activations", EXCHANGED)}
    assert halves["prepare"] == whole["prepare"] and halves["decoding"] == whole["decoding"]
    # two GPUs work on one item or each on its own; previews alone take half the time
    on_two = replace(ON_24, fit=False, gpus=2)
    alone, split = (make_plan(one, on_two) for one in (config, two))
    assert split.hours.training == alone.hours.training and split.hours.previews == alone.hours.previews / 2
    assert EXCHANGED not in alone.phases["training"]
    assert any("GiB from each GPU in an update" in line for line in split.assumptions)


@pytest.mark.parametrize(
    ("degree", "gpus", "told"),
    [
        (2, 3, "over 2 GPUs, and there are 3; use --gpus 4"),
        (2, 10, "is not a multiple of 5 groups of 2 GPUs x loop.micro_batch_size=1; use e.g. 20"),
        (5, 5, "loop.context_parallel=5 does not divide the 24 heads of attention and the 4096 tokens (64 x 64) and "),
        (4, 8, None),
    ],
)
def test_what_train_will_refuse_of_a_split_is_told(config, degree, gpus, told):
    split = replace(config, loop=replace(config.loop, context_parallel=degree, batch_size=16, micro_batch_size=1))
    notes = [note for note in make_plan(split, replace(ON_24, fit=False, gpus=gpus)).notes if "train will" in note]
    assert (told is None and not notes) or told in notes[0]


def test_a_clip_is_proposed_over_two_gpus():
    wan = load_config(str(Path(FLUX).parents[1] / "video/wan21_14b_lora_seppo_24gb.yaml"), VideoConfig)
    long = replace(wan, loop=replace(wan.loop, offload_activations=False))
    assert propose(long, ON_24).changes == {"loop.offload_activations": True}
    found = propose(long, replace(ON_24, gpus=2))
    assert found.changes == {"loop.context_parallel": 2} and found.plan.fits and not found.before.fits


def test_the_machine_s_own_memory_counts(config, capsys):
    """22 GiB of blocks on the CPU do not go into 16, so that the blocks are kept in fewer bits there."""
    print_plan(config, ON_24)
    assert "GiB of the machine's own memory, which is not checked: --host_memory GIB does" in capsys.readouterr().out
    roomy, small = (propose(config, replace(ON_24, host_memory=size)) for size in (64, 16))
    assert roomy.changes == {"model.offload": True} and roomy.plan.host > 20 * GIB
    assert small.plan.fits and small.plan.host <= 16 * GIB and small.changes.keys() & {"model.quantize"}
    offloaded = make_plan(with_model(config, offload=True), replace(ON_24, fit=False, host_memory=16))
    assert not offloaded.fits and any(note.startswith("the machine is too small: ") for note in offloaded.notes)
    # eight processes hold eight times as much
    request = replace(ON_24, fit=False, host_memory=64, gpus=8)
    assert not make_plan(with_model(config, offload=True), request).fits
    with pytest.raises(ValueError, match=r"--host_memory -1 must be above 0 GiB"):
        replace(ON_24, host_memory=-1)


def test_this_machine_s_memory_is_taken_where_it_has_the_gpu(config, tmp_path, monkeypatch):
    request = replace(ON_24, fit=False)
    monkeypatch.setattr(host, "DRIVER", tmp_path)
    monkeypatch.setattr(host, "LIMIT", tmp_path / "memory.max")
    assert host.host_memory(request) is None
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0/information").write_text("Model: \t\t NVIDIA GeForce RTX 4090\nIRQ: 1\n")
    installed = host.host_memory(request)
    assert installed > 2**28
    assert host.host_memory(replace(request, gpu="h100")) is None
    for limit, expected in (("max", installed), (str(2**28), 2**28)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert host.host_memory(request) == expected


def test_blocks_in_fewer_bits_on_the_cpu_by_hand(config):
    costs = costs_of(config)
    both = with_model(config, offload=True, quantize="nf4")
    plan = make_plan(both, ON_24)
    numbers = costs.weights.matrices["transformer"].numbers
    rest = costs.weights.base - 2 * numbers - costs.weights.outside.weights
    assert plan.host - make_plan(config, ON_24).host == pytest.approx(numbers * 4.127 / 8 + rest, rel=0.003)
    # of two blocks of 57, the largest ones
    held = memory(both, costs, 1)["training"]["policy, nf4"] - costs.weights.outside.weights
    plain = memory(with_model(config, offload=True), costs, 1)["training"]["policy, bfloat16"]
    assert held == pytest.approx((plain - costs.weights.outside.weights) * 4.127 / 16, rel=0.05)
    # a quarter goes over the link, if nothing hides it, and each matrix is written out as without offloading
    from seppo_core.plan.moving import moving

    slow = replace(GPUS["rtx4090"], link=0.01)
    written = moving(with_model(config, quantize="nf4"), costs, slow, plan.counts, ON_24)
    fetched, quarter = (
        moving(with_model(config, offload=True, quantize=kind), costs, slow, plan.counts, ON_24)
        for kind in (None, "nf4")
    )
    assert quarter - written == pytest.approx(fetched * 4.127 / 16, rel=0.1)


CLIPS = sorted((Path(FLUX).parents[1] / "video").glob("*.yaml"))


@pytest.mark.parametrize("recipe", CLIPS, ids=lambda path: path.stem)
def test_what_a_preview_decodes_goes_into_24_gb(recipe):
    """Clips are decoded in tiles, one by one, so that beside two blocks of the base there is room on any such card."""
    clips = load_config(str(recipe), VideoConfig)
    parts = memory(clips, costs_of(clips), 1)["decoding"]
    base = sum(size for name, size in parts.items() if name.startswith("policy"))
    blocks = costs_of(clips).weights
    held = sum(parts.values()) - (
        0 if clips.model.spec.unet else base - blocks.outside.weights - 2 * blocks.block.weights
    )
    assert parts["activations"] > 0 and held < 20 * GIB

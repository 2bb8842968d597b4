"""What is to run on a card, as far as a CPU can show it: steps that go on, wheels in parts, memory beside its plan."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from benchmarks.experiments.speed import main as speed
from benchmarks.experiments.speed import session
from benchmarks.experiments.speed.published import PUBLISHED
from benchmarks.gpu import main as gpu
from benchmarks.gpu import memory, results
from benchmarks.gpu.main import join, main, split
from benchmarks.gpu.steps import ROOT, Step, Work, all_steps, marked_tests


def python(name: str, code: str, seconds: float = 1) -> Step:
    return Step(name, ("-S", "-c", code), seconds)


def test_calls_go_on_from_one_another(tmp_path, capsys):
    steps = [
        python("first", "print('once'); open(r'{out}/made', 'x')"),
        python("failing", "raise SystemExit(3)"),
        python("long", "print('later')", seconds=1000),
    ]
    assert not Work(tmp_path, steps).call(60)
    # the long one waits for a call of its own; what is done is not done again
    work = Work(tmp_path, steps)
    assert {name: one.code for name, one in work.outcomes.items()} == {"first": 0, "failing": 3}
    assert (tmp_path / "first" / "made").exists() and "once" in work.outcomes["first"].tail
    assert work.call(60) and work.outcomes["long"].code == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("first: exit 0, ")


def test_a_step_ends_with_its_call_and_is_tried_again_with_more_time(tmp_path, capsys):
    code = (
        "import pathlib, subprocess, sys, time; made = pathlib.Path(r'{out}/made')\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        "made.write_text(str(child.pid)) if not made.exists() else sys.exit(0)\ntime.sleep(60)"
    )
    steps = [python("endless", code)]
    work = Work(tmp_path, steps)
    assert work.call(17) and work.outcomes["endless"].code == 124 and work.outcomes["endless"].seconds < 30
    assert "endless: timed out after 2 s; tried again once --limit is " in capsys.readouterr().out
    # what it had started has ended with it
    assert ends(int((tmp_path / "endless" / "made").read_text()))
    assert work.results() == []
    again = Work(tmp_path, steps)
    assert again.call(17) and again.outcomes["endless"].code == 124 and not capsys.readouterr().out
    assert again.left(60) and again.call(60) and again.outcomes["endless"].code == 0


def ends(process: int) -> bool:
    """Whether a process is gone, or is within seconds."""
    try:
        found = psutil.Process(process)
        until = time.monotonic() + 10
        while found.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.02)
        return found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_step_that_the_rest_of_a_call_was_too_short_for_has_a_call_of_its_own(tmp_path):
    steps = [python("quick", ""), python("slow", "import time; time.sleep(4)", seconds=0.1)]
    assert not Work(tmp_path, steps).call(17)
    work = Work(tmp_path, steps)
    assert [step.name for step in work.left()] == ["slow"]
    assert work.call(40) and work.outcomes["slow"].code == 0


def test_steps_name_commands_that_are_there(tmp_path, capsys):
    names = [step.name for step in all_steps()]
    assert len(names) == len(set(names)) and all(("tests", "memory", "speed").count(n.split("-")[0]) for n in names)
    for name in PUBLISHED:
        assert {f"memory-{name}", f"speed-{name}-lora"} <= set(names)
    # of every family one base, before the second of any
    assert names.index("memory-animatediff-sdxl") < names.index("speed-sd15-lora") < names.index("memory-wan-14b")
    assert main(["--list", "--out", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(names)
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])


@pytest.mark.parametrize(
    "name", ["memory-ltx", "memory-flux-nf4", "memory-flux-offload", "speed-animatediff-lora", "speed-sd15-full"]
)
def test_steps_say_what_their_commands_take(name, monkeypatch):
    """The command's own parser takes the words, and names the base and size that were meant."""
    (step,) = [step for step in all_steps() if step.name == name]
    taken = {}
    if step.command[1] == "benchmarks.gpu.memory":
        monkeypatch.setattr(memory, "compare", lambda subject, *rest, **more: taken.update(s=subject) or Stop())
        with pytest.raises(TypeError):
            memory.main(list(step.command[2:]))
        wanted = {"ltx": "97 x 512 x 704", "flux": "1024 x 1024"}[name.split("-")[1]]
        assert taken["s"].size == wanted and (taken["s"].batch, taken["s"].tune) == (1, "lora")
    else:
        monkeypatch.setattr(session, "measure", lambda asked: taken.update(vars(asked)) or 0)
        assert step.command[:3] == ("-m", "benchmarks", "speed") and speed.main(list(step.command[3:])) == 0
        assert (taken["plain"], taken["batch"], taken["dtype"]) == (True, 1, "bf16")
        lora = name.endswith("lora")
        assert taken["tune"] == name.rpartition("-")[2]
        assert taken["published"] == (["animatediff"] if lora else None)
        assert (taken["base"], taken["height"]) == ((None, None) if lora else (["stable-diffusion-v1-5"], 512))


class Stop:
    """No result: what comes after it fails."""


@pytest.mark.slow
def test_the_files_with_marked_tests_are_pytest_s():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "--collect-only", "-m", "gpu", "tests"], cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # "FILE: COUNT", or "FILE::TEST", as quiet as the project's own options make it
    collected = {line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith("tests/")}
    assert collected, done.stdout[-500:]
    found = {file.relative_to(ROOT).as_posix() for file in marked_tests()}
    # without their libraries these are skipped before they are collected
    assert collected <= found and found - collected <= {
        "tests/training/test_eight_bits.py", "tests/training/test_quantize.py",
    }  # fmt: skip


def test_missing_packages_are_installed_from_a_folder_of_wheels(tmp_path, monkeypatch, capsys):
    there, ran = {"pytest": "99", "numpy": "2.10.0", "peft": "0.9.1"}, []
    monkeypatch.setattr(gpu, "installed", there.get)
    wheels = tmp_path / "wheels"
    assert not gpu.equipped(wheels) and not ran
    (told,) = capsys.readouterr().err.splitlines()
    names = told.partition("; ")[0].partition(": ")[2].split(", ")
    assert {"absl-py", "accelerate", "peft", "torchao"} <= set(names) and not {"numpy", "pytest"} & set(names)
    assert "--wheels" in told

    def pip(command, **_):
        ran.append(command)
        there.update(dict.fromkeys([name for name in names if name != "torchao"], "99"))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(gpu.subprocess, "run", pip)
    wheels.mkdir()
    (wheels / "absl_py-2-py3-none-any.whl.part-000").write_bytes(b"a")
    assert gpu.equipped(wheels) and ran[0][-1] == str(wheels / "absl_py-2-py3-none-any.whl")
    assert "--no-index" in ran[0] and capsys.readouterr().err
    # what a step can do without is told, the steps run, and nothing is installed once more
    for _ in range(2):
        assert gpu.equipped(wheels) and capsys.readouterr().err.startswith("missing or too old: torchao; ")
    assert len(ran) == 1
    there["torchao"] = "99"
    assert gpu.equipped(wheels) and not capsys.readouterr().err


def test_results_of_what_passed_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "results")
    write = "open(r'{out}/%s-x-2026-12-01.json', 'w').write('x'); open(r'{out}/report.json', 'w'); raise SystemExit(%d)"
    steps = [python("memory-x", write % ("memory", 0)), python("speed-x", write % ("plain", 0))]
    work = Work(tmp_path, [*steps, python("speed-y", write % ("plain-bad", 1))])
    assert work.call(60) and gpu.keep(work) == 0
    kept = sorted(file.relative_to(tmp_path / "results").as_posix() for file in (tmp_path / "results").rglob("*.json"))
    assert kept == ["gpu/memory-x-2026-12-01.json", "speed/plain-x-2026-12-01.json"]
    assert capsys.readouterr().out.splitlines()[-1] == "kept: speed/plain-x-2026-12-01.json"


def test_files_in_parts_come_back(tmp_path):
    content = bytes(range(256)) * 5
    large, small = tmp_path / "large.whl", tmp_path / "small.whl"
    large.write_bytes(content)
    small.write_bytes(b"x")
    for file in (large, small):
        split(file, 512)
    assert not large.exists() and small.exists()
    assert [path.stat().st_size for path in sorted(tmp_path.glob("*.part-*"))] == [512, 512, 256]
    join(tmp_path)
    assert large.read_bytes() == content and not list(tmp_path.glob("*.part-*"))


@pytest.mark.parametrize("plain", [False, True])
def test_memory_beside_its_plan(tmp_path, capsys, plain):
    assert memory.main(["--out", str(tmp_path), *["--plain"] * plain]) == 0
    (file,) = tmp_path.glob("memory-*.json")
    found = json.loads(file.read_text())
    way = "the-plain-way" if plain else "lora"
    assert file.name == f"memory-toy-images-32-x-32-fp32-{way}-cpu-{found['origin']['started'][:10]}.json"
    assert found["plain"] is plain and ("second copy" in found["parts"]) is plain
    assert 0.7 < found["share"] < 1.3
    assert "planned" in capsys.readouterr().out
    assert file.stat().st_size < 10_000
    # the page takes it from there
    (row,) = results.table(results.newest(tmp_path))[2:]
    cells = [cell.strip() for cell in row.split("|")][1:-1]
    assert cells[:3] == ["toy images, 32 x 32, fp32", way.replace("-", " ").replace("lora", "LoRA"), "CPU"]
    assert cells[5] == f"{found['measured'] / found['planned']:.2f}"


def test_the_newest_of_each_case_and_device_is_kept(tmp_path):
    def save(name: str, share: float, day: int, **changes):
        one = {
            "kind": results.KIND, "subject": "base", "size": "8 x 8", "precision": "bf16", "plain": False,
            "quantize": None, "offload": False, "planned": 2**30, "measured": share * 2**30, "share": share,
        }  # fmt: skip
        one |= {"origin": {"started": f"2026-12-{day:02d}T00:00:00", "device": changes.pop("device", "CPU")}}
        (tmp_path / f"memory-{name}.json").write_text(json.dumps(one | changes))

    save("a", 0.5, 2)
    save("b", 0.9, 1)
    save("c", 0.7, 1, device="NVIDIA H200")
    save("d", 0.8, 1, quantize="nf4", offload=True)
    save("e", 9, 9, kind="another")
    assert results.table(results.newest(tmp_path))[2:] == [
        "| base, 8 x 8, bf16 | LoRA | CPU | 1.00 | 0.50 | 0.50 |",
        "|  | LoRA | NVIDIA H200 | 1.00 | 0.70 | 0.70 |",
        "|  | LoRA on nf4, offloaded base | CPU | 1.00 | 0.80 | 0.80 |",
    ]

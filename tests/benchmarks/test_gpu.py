"""What is to run on a card, as far as a CPU can show it: steps that go on, wheels in parts, memory beside its plan."""

import json

import pytest

from benchmarks.gpu import memory, results
from benchmarks.gpu.main import join, main, split
from benchmarks.gpu.steps import Step, Work, all_steps


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
    assert capsys.readouterr().out.splitlines()[0].startswith("first: 0, ")


def test_a_step_ends_with_its_call(tmp_path):
    work = Work(tmp_path, [python("endless", "import time; time.sleep(60)")])
    assert work.call(16.5) and work.outcomes["endless"].code == 124 and work.outcomes["endless"].seconds < 30


def test_a_step_that_the_rest_of_a_call_was_too_short_for_has_a_call_of_its_own(tmp_path):
    steps = [python("quick", ""), python("slow", "import time; time.sleep(4)", seconds=0.1)]
    assert not Work(tmp_path, steps).call(17)
    work = Work(tmp_path, steps)
    assert [step.name for step in work.left()] == ["slow"]
    assert work.call(40) and work.outcomes["slow"].code == 0


def test_steps_name_commands_that_are_there(tmp_path, capsys):
    names = [step.name for step in all_steps()]
    assert len(names) == len(set(names)) and names[0] == "tests"
    assert main(["--list", "--out", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(names)
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])


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

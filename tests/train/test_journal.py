import json

from mtl_jax.train.journal import LINES, Journal


def write(folder, start, steps):
    with Journal(folder, start, 10, quiet=True) as journal:
        for step in steps:
            journal.advance(step, 8)
            journal.waited(1e-9 if step == 1 else 1e9)
            journal.train(step, {"loss": 0.5 * step})
            journal.evaluated(step, {"click/auc": float("nan")})


def steps_of(folder):
    lines = (folder / LINES).read_text().splitlines()
    return [(json.loads(line)["step"], json.loads(line)["kind"]) for line in lines]


def test_lines_and_tensorboard_are_written(tmp_path):
    write(tmp_path, 0, [1, 2])
    assert steps_of(tmp_path) == [(1, "train"), (1, "eval"), (2, "train"), (2, "eval")]
    first = json.loads((tmp_path / LINES).read_text().splitlines()[0])
    assert first["loss"] == 0.5
    assert first["examples_per_second"] > 0
    assert 0 < first["input_wait"] < 0.5
    nothing = json.loads((tmp_path / LINES).read_text().splitlines()[1])
    assert nothing["click/auc"] is None, "NaN is no JSON"
    assert [p for p in (tmp_path / "tensorboard").iterdir() if p.stat().st_size > 0]


def test_a_resumed_run_tells_no_step_twice(tmp_path):
    write(tmp_path, 0, [1, 2, 3, 4])
    with (tmp_path / LINES).open("a") as file:
        file.write('{"step": 4, "kind": "tr')  # killed while writing
    write(tmp_path, 2, [3, 4, 5])
    assert steps_of(tmp_path) == [(s, k) for s in range(1, 6) for k in ("train", "eval")]

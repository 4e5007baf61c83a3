"""One program on several meshes of eight faked devices, in a process of its own; see meshes.py."""

import json
import math
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from test_reliability import Together, error_of, losses

from benchmarks.collectives import collectives, sent
from mtl_jax.core.errors import UserError
from mtl_jax.train.mesh import (
    AXES,
    axis_sizes,
    check_heads,
    device_bytes,
    spec_of,
    state_sharding,
    told,
)
from runs import CONFIG

SPLIT = ("fsdp", "tensor")  # names of meshes in meshes.py


class Found:
    """What meshes.py found on each mesh, one step after the other."""

    def __init__(self, folder):
        self.told = json.loads((folder / "meshes.json").read_text())
        self.hlo = {n: collectives((folder / f"{n}.hlo").read_text()) for n in self.told}
        files = {n: np.load(folder / f"{n}.npz") for n in self.told}
        self.state = {
            n: {k.replace("__", "/"): np.asarray(z[k]) for k in z.files} for n, z in files.items()
        }

    def losses(self, name):
        return np.array(self.told[name]["losses"])


@pytest.fixture(scope="module")
def found(zygote, tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes")
    flags = "--xla_force_host_platform_device_count=8"
    process = zygote.run("meshes", str(folder), xla_flags=flags)
    assert process.status == 0, process.output()[-4000:]
    assert "full rematerialization" not in process.output(), "an array was gathered and cut again"
    return Found(folder)


def without_padding(one, other):
    """`other` less the rows that a mesh has put behind a table, which are zeros."""
    if one.shape == other.shape:
        return other
    assert not other[len(one) :].any()
    return other[: len(one)]


@pytest.mark.parametrize("name", SPLIT)
def test_losses_are_those_of_one_device(found, name):
    """To rounding: sums are taken in another order; 1e-5 as for data shards in test_devices."""
    one, other = found.losses("one"), found.losses(name)
    np.testing.assert_allclose(other, one, atol=1e-5, rtol=0)
    assert np.abs(one[0] - one[-1]).min() > 1e-3, "something was learned"


@pytest.mark.parametrize("name", SPLIT)
def test_parameters_and_moments_are_those_of_one_device(found, name):
    """A step moves a parameter by up to 1e-2; rounding moves it as much where that is all its
    gradient is, since Adam divides by its size: a key's bias shifts all scores of a query alike.
    """
    one, other = found.state["one"], found.state[name]
    assert one.keys() == other.keys()
    last = {k.removeprefix("last/"): v for k, v in one.items() if k.startswith("last/")}
    for key, value in last.items():
        if key.startswith("params/") and re.search("/(key|key_value)/bias$", key):
            continue
        got, size = without_padding(value, other[f"last/{key}"]), np.abs(value).max(initial=0)
        # Of a moment, which may be small, a thousandth of its largest entry.
        atol = max(1e-3 * size, 1e-12 if "/nu" in key else 1e-8) if "opt" in key else 1e-4
        np.testing.assert_allclose(got, value, atol=atol, rtol=0, err_msg=key)
    moved = {k: np.abs(v - one[f"first/{k}"]).max() for k, v in last.items() if "params" in k}
    assert min(v for k, v in moved.items() if k.endswith("kernel")) > 1e-3


@pytest.mark.parametrize("name", ["one", "tensor"])
def test_a_checkpoint_of_one_mesh_is_restored_on_another_bit_for_bit(found, name):
    saved, state = found.state["fsdp"], found.state[name]
    first = [k for k in saved if k.startswith("first/")]
    assert len(first) > 100
    for key in first:
        small, large = sorted((saved[key], state[key]), key=np.size)
        np.testing.assert_array_equal(without_padding(small, large), small, err_msg=key)


def test_each_device_holds_its_part_of_every_array_and_no_byte_more(found):
    """Parameters, both Adam moments, tables and theirs: the total over the axes, exactly."""
    wanted = {
        "fsdp": {
            "encoder/layer_0/query/kernel": 2,
            "encoder/layer_0/ffn_out/kernel": 2,
            "encoder/layer_0/query/bias": 1,
            "encoder/embeddings/word": 2,
            "heads/trunk/experts/layer_0/kernel": 2,
            "towers/user/merge/kernel": 2,
            "towers/item/norm/scale": 1,
        },
        "tensor": {
            "encoder/layer_0/query/kernel": 2,
            "encoder/layer_0/ffn_out/kernel": 2,
            "encoder/layer_0/query/bias": 2,
            "encoder/layer_0/ffn_out/bias": 1,
            "encoder/embeddings/word": 2,
            "heads/trunk/experts/layer_0/kernel": 2,
            "heads/trunk/experts/norm_0/scale": 2,
            "towers/user/merge/kernel": 1,
        },
    }
    rows = {"fsdp": 2, "tensor": 1}
    for name, parts in wanted.items():
        sizes, held = found.told[name]["bytes"], found.told[name]["held"]
        ways = {
            f"{top}/{k}": n for k, n in parts.items() for top in ("params", "opt/0/mu", "opt/0/nu")
        }
        tables = ("tables/{}", "table_opt/{}/mu", "table_opt/{}/nu")
        ways |= {t.format(k): rows[name] for t in tables for k in ("user", "item")}
        for key, n in ways.items():
            assert held[key] == [sizes[key] // n] * 8, key
            assert sizes[key] % n == 0
        # Of all that is large nothing is left whole by fsdp.
        if name == "fsdp":
            kernels = [k for k in sizes if re.search("/(kernel|embedding|word)$", k)]
            assert all(2 * held[k][0] == sizes[k] for k in kernels if sizes[k] > 200)


def shapes_of(found, name):
    """Shapes of parameters, of their parts on a device, and of the rows that a batch gathers."""
    state = {k.removeprefix("last/params/"): v.shape for k, v in found.state["one"].items()
             if k.startswith("last/params/")}  # fmt: skip
    shapes = set(state.values())
    for shape in state.values():
        shapes |= {(*shape[:i], n // 2, *shape[i + 1 :]) for i, n in enumerate(shape)}
        if len(shape) == 2:  # keys and values of the user tower are taken by heads, of which are 2
            shapes.add((shape[0], 2, shape[1] // 2))
    of_type, of_age = (state[f"towers/user/{k}"] for k in ("type/embedding", "age/kernel"))
    shapes.add((of_type[0] + of_age[0], of_age[1]))  # one product has both
    for k, n in found.told[name]["ids"].items():
        table = found.state["one"][f"last/tables/{k.removeprefix('uniq/')}"]
        shapes.add((n, table.shape[1]))
    return [sorted(shape) for shape in shapes]  # a product may come out transposed


def test_fsdp_talks_of_parameters_gradients_and_rows_only(found):
    """No activation crosses devices: every float array of a collective is a parameter, its
    gradient, a batch's rows of a table, or scalars; the ids of these rows are small integers."""
    shapes, kinds = shapes_of(found, "fsdp"), set()
    for c in found.hlo["fsdp"]:
        kinds.add(c.kind)
        for dtype, shape in c.arrays:
            few = math.prod(shape) <= 4
            assert few or dtype == "s32" or sorted(shape) in shapes, (c.kind, c.group, dtype, shape)
    assert kinds == {"all-gather", "all-reduce"}  # XLA's CPU backend has no reduce-scatter


def test_fsdp_sends_at_most_what_gathering_and_summing_once_takes(found):
    """Gather each split parameter once and sum each gradient once: 1.5 of the least, which a
    backend with a reduce-scatter has. 1.2 of that, for norms, ids and what is too small to split.
    """
    params = {k: v for k, v in found.told["fsdp"]["bytes"].items() if k.startswith("params/")}
    held = found.told["fsdp"]["held"]
    rows = sum(
        4 * n * found.state["one"][f"last/tables/{k.removeprefix('uniq/')}"].shape[1]
        for k, n in found.told["fsdp"]["ids"].items()
    )
    gathered = sum(n for k, n in params.items() if held[k][0] < n) / 2  # (k - 1) / k of two
    # Gradients: over fsdp whole, and over data what a device holds of them; or over all at once.
    split = sum(n for k, n in params.items() if held[k][0] < n)
    kept = sum(params.values()) - split
    summed = 2 * (split / 2 + split / 2 * 3 / 4 + kept * 7 / 8)
    least = gathered + summed + 2 * rows / 2 + 2 * rows * 7 / 8
    assert sent(found.hlo["fsdp"]) <= 1.2 * least


def test_tensor_sums_activations_where_megatron_does(found):
    """[S, P, L, D] of the encoder: forward after the vocabulary's rows, attention and ffn of one
    layer; backward before ffn_in, and before query, key and value."""
    shards, *text = found.told["tensor"]["texts"][1:]
    states = (shards // 2, *text, 8)
    talk = [c for c in found.hlo["tensor"] for _, s in c.arrays if s == states]
    assert [c.kind for c in talk] == ["all-reduce"] * 7
    assert {c.group for c in talk} == {2}
    shapes = shapes_of(found, "tensor")
    rest = [s for c in found.hlo["tensor"] for _, s in c.arrays if s != states]
    assert max(math.prod(s) for s in rest if sorted(s) not in shapes) < math.prod(states) / 4


def test_names_and_numbers_of_a_mesh():
    assert list(axis_sizes(0, 8).values()) == [8, 1, 1, 1]
    assert axis_sizes(3, 8)["data"] == axis_sizes("3", 8)["data"] == 3
    assert list(axis_sizes("data=4,fsdp=2", 8).values()) == [4, 2, 1, 1]
    assert list(axis_sizes("tensor=2, expert=2", 8).values()) == [2, 1, 2, 2]
    for spec, message in (
        ("data=4,fsdb=2", r"--mesh=data=4,fsdb=2 .*no axis 'fsdb'\. Did you mean 'fsdp'\?"),
        ("data=4,fsdp=4", "it takes 16 devices, there are 8"),
        ("data=3", "3 devices do not divide the 8 that there are"),
        ("fsdp=3", "3 devices do not divide the 8 that there are"),
        ("data=2,data=2", "write each axis once, as in data=4,fsdp=2"),
        ("data", "write each axis once"),
        ("fsdp=0", "write each axis once"),
        (9, "train.mesh=9: there are 8 devices"),
        (-1, "train.mesh=-1: there are 8 devices"),
    ):
        with pytest.raises(UserError, match=message):
            axis_sizes(spec, 8)


@pytest.mark.parametrize(
    ("path", "shape", "sizes", "spec"),
    [
        ("params/encoder/layer_3/query/kernel", (8, 8), {"tensor": 4}, P("fsdp", "tensor")),
        ("opt/0/nu/encoder/layer_3/query/kernel", (8, 8), {"tensor": 4}, P("fsdp", "tensor")),
        ("params/encoder/layer_3/query/kernel", (7, 8), {"fsdp": 2}, P(None, "tensor")),
        ("params/encoder/embeddings/word", (21, 8), {"tensor": 2, "fsdp": 2}, P(None, "fsdp")),
        ("params/encoder/embeddings/word", (22, 7), {"tensor": 2, "fsdp": 2}, P("tensor")),
        ("params/heads/trunk/experts/layer_0/kernel", (3, 8, 8), {"expert": 2}, P(None, "fsdp")),
        ("params/towers/user/merge/kernel", (7, 6), {"fsdp": 2}, P(None, "fsdp")),
        ("params/towers/user/merge/kernel", (7, 7), {"fsdp": 2}, P()),
        ("balancer/inner/encoder/layer_3/query/kernel", (8, 8), {"fsdp": 2}, P()),
        ("key", (2,), {"fsdp": 2}, P()),
    ],
)
def test_a_rules_next_choice(path, shape, sizes, spec):
    assert spec_of(path, shape, {"data": 1, "fsdp": 1, "tensor": 1, "expert": 1, **sizes}) == spec


def test_what_cannot_be_split_is_named():
    sizes = {"data": 1, "fsdp": 1, "tensor": 4, "expert": 1}
    with pytest.raises(UserError, match=r"tensor=4: encoder/layer_0/ffn_in/kernel \[8, 6\] cannot"):
        spec_of("encoder/layer_0/ffn_in/kernel", (8, 6), sizes)
    with pytest.raises(UserError, match="tensor=4 does not divide the encoder's 6 heads"):
        check_heads(SimpleNamespace(shape=sizes), 6)


def abstract_state(**params):
    as_array = lambda shape: jax.ShapeDtypeStruct(shape, np.float32)  # noqa: E731
    return {"params": {k.replace("__", "/"): as_array(v) for k, v in params.items()}}


def mesh_of(*sizes):
    return jax.sharding.AbstractMesh(sizes, AXES)


def test_an_axis_that_splits_nothing_is_refused():
    towers = abstract_state(towers__merge__kernel=(8, 8))
    assert state_sharding(mesh_of(1, 2, 1, 1), towers)["params"]["towers/merge/kernel"].spec == P(
        "fsdp"
    )
    for sizes, message in (
        ((1, 1, 2, 1), "tensor=2 splits nothing here: it needs a trained encoder"),
        ((1, 1, 1, 2), "expert=2 splits nothing here: it needs a trunk of experts"),
    ):
        with pytest.raises(UserError, match=message):
            state_sharding(mesh_of(*sizes), towers)


def test_the_bytes_of_a_device_are_told():
    mesh = mesh_of(4, 2, 1, 1)
    state = abstract_state(towers__merge__kernel=(1000, 1000), towers__merge__bias=(1000,))
    parts = device_bytes(state, state_sharding(mesh, state))
    assert parts == {"params": (4_004_000, 2_004_000)}
    assert told(mesh, parts).splitlines() == [
        "mesh data=4, fsdp=2: MB of the state, and of it on each device",
        "  params           4.00       2.00",
        "  all              4.00       2.00",
    ]


def test_every_script_that_takes_a_configuration_takes_a_mesh(tiny, zygote, tmp_path):
    flags = [f"--config={CONFIG}", f"--workdir={tmp_path}", f"--set={tiny.data}"]
    process = zygote.start("experiments.train", *flags, "--mesh=data=4,fsdp=2")
    assert "--mesh=data=4,fsdp=2 (train.mesh): it takes 8 devices, there are 1" in error_of(process)


@pytest.mark.soak
def test_two_processes_that_split_the_state_have_the_losses_of_one(tiny, zygote, tmp_path):
    """Through jax.distributed and gloo; sums of two parts are exact to rounding, as above."""
    one = zygote.train(tmp_path / "one", tiny.data, "batch.shards=2", "train.checkpoint_every=2")
    assert one.wait() == 0, one.output()[-3000:]
    for mesh in ("data=2", "fsdp=2"):
        two = Together(tmp_path / mesh, tiny.data, "--set=batch.shards=2", f"--mesh={mesh}")
        two.wait()
        a, b = losses(tmp_path / "one", 0), losses(tmp_path / mesh, 0)
        assert a.shape == b.shape == (12, 5)
        print(f"{mesh}: losses differ by at most {np.abs(a - b).max():.1e}")
        np.testing.assert_allclose(b, a, atol=1e-5, rtol=0)

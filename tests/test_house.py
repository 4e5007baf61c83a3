"""The floors of the house: who imports whom, parsed from the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    "mtl_jax.core": 0,
    "mtl_jax.data": 1,
    "mtl_jax.nn": 1,
    "mtl_jax.tasks": 2,
    "mtl_jax.metrics": 2,
    "mtl_jax.balance": 3,
    "mtl_jax.adapt": 3,
    "mtl_jax.train": 4,
    "mtl_jax.serve": 5,
    "mtl_jax.config": 6,
    "mtl_jax.job": 6,
    "mtl_jax.restore": 6,
    "experiments": 6,
    "benchmarks": 6,
}
# On one floor: what may be read beside what lies below.
BESIDE = {
    "mtl_jax.nn": ("mtl_jax.data.schema",),
    "mtl_jax.tasks": ("mtl_jax.metrics",),
}
TOP = 6


def sources(*folders: str) -> list[Path]:
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


OURS = sources("mtl_jax", "experiments", "benchmarks")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in OURS}


def imports(text: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, full name) of all that a source imports, inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                own = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*own[: len(own) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in MODULES else base


def imports_of(path: Path) -> list[tuple[int, str]]:
    found = imports(path.read_text(), module_of(path), path.name == "__init__.py")
    return [(line, name) for line, name in found]


def folder_of(module: str) -> str:
    """The entry of FLOORS that a module of ours belongs to, "" for one that has none."""
    return next((f for f in FLOORS if module == f or module.startswith(f"{f}.")), "")


def is_ours(name: str) -> bool:
    return name.split(".")[0] in ("mtl_jax", "experiments", "benchmarks")


def broken_floor(module: str, name: str) -> str:
    """What is wrong with `module` importing `name`, "" if nothing."""
    here, there = folder_of(module), folder_of(name)
    if not is_ours(name) or here == there or FLOORS[here] == TOP:
        return ""
    if FLOORS[there] < FLOORS[here]:
        return ""
    allowed = BESIDE.get(here, ())
    if any(name == a or name.startswith(f"{a}.") for a in allowed):
        return ""
    return f"{module} ({here}, floor {FLOORS[here]}) imports {name} (floor {FLOORS[there]})"


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Circles among modules, one for each module that closes one."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for other in sorted(edges.get(module, ())):
            visit(other, [*path, module])
        done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found


@pytest.mark.parametrize("path", OURS, ids=module_of)
def test_imports_come_from_lower_floors_only(path):
    module = module_of(path)
    if module == "mtl_jax":
        assert not [name for _, name in imports_of(path) if is_ours(name)]
        return
    assert folder_of(module), f"{module} stands on no floor: give it one in FLOORS"
    wrong = [broken_floor(module, name) for _, name in imports_of(path) if is_ours(name)]
    assert not list(filter(None, wrong))


def test_no_circle_among_modules():
    edges = {
        module_of(path): {name for _, name in imports_of(path) if name in MODULES} for path in OURS
    }
    # A package's __init__ gathers its own modules; they do not import it.
    assert circles(edges) == []


def test_only_nn_and_adapt_import_linen():
    for path in OURS:
        if folder_of(module_of(path)) not in ("mtl_jax.nn", "mtl_jax.adapt"):
            used = [name for _, name in imports_of(path) if name.split(".")[0] == "flax"]
            assert not used, f"{path} imports {used}"


def test_data_imports_neither_jax_nor_flax():
    # grain and core.types bring jax along, but no array of data/ is made by it.
    for path in sources("mtl_jax/data"):
        used = {name.split(".")[0] for _, name in imports_of(path)}
        assert not used & {"jax", "flax", "optax", "orbax"}, path


def test_no_torch_in_the_package():
    for path in sources("mtl_jax", "experiments"):
        used = {name.split(".")[0] for _, name in imports_of(path)}
        assert not used & {"torch", "torchvision", "sentence_transformers"}, path


def test_parameters_carry_no_boxes():
    for path in sources("mtl_jax"):
        assert "with_partitioning" not in path.read_text(), path


def test_every_folder_has_tests():
    for folder in FLOORS:
        if folder.startswith("mtl_jax.") and (ROOT / folder.replace(".", "/")).is_dir():
            name = folder.removeprefix("mtl_jax.")
            assert list((ROOT / "tests" / name).glob("test_*.py")), f"tests/{name} is empty"


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, "pytest cannot import two files of one name"


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        ("mtl_jax.core.trees", "mtl_jax.data.schema", True),
        ("mtl_jax.nn.model", "mtl_jax.data.schema", False),
        ("mtl_jax.nn.model", "mtl_jax.data.prepare", True),
        ("mtl_jax.data.labels", "mtl_jax.nn.heads", True),
        ("mtl_jax.tasks.task", "mtl_jax.metrics.binary", False),
        ("mtl_jax.metrics.binary", "mtl_jax.tasks.task", True),
        ("mtl_jax.train.loop", "mtl_jax.serve.recommend", True),
        ("mtl_jax.train.loop", "mtl_jax.config", True),
        ("mtl_jax.adapt.cache", "mtl_jax.balance.fixed", True),
        ("mtl_jax.job", "mtl_jax.train.loop", False),
    ],
)
def test_the_floor_test_itself_sees_what_it_should(module, name, wrong):
    assert bool(broken_floor(module, name)) == wrong


def test_the_parser_itself_sees_hidden_relative_and_circular_imports():
    text = "def f():\n    from ..train import loop\n    import torch.nn\nfrom . import labels\n"
    found = dict.fromkeys(name for _, name in imports(text, "mtl_jax.data.batch"))
    assert list(found) == ["mtl_jax.data.labels", "mtl_jax.train.loop", "torch.nn"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []

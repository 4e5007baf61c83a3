"""What the balancing benchmark measures: worlds, the entries timed together in each, the bounds."""

from dataclasses import dataclass, field

from benchmarks.balancing_data import World
from benchmarks.report import Kind

METHODS = ("nash", "upgrad", "mgda", "pcgrad", "cagrad")


@dataclass(frozen=True)
class Ours:
    """A step of ours. loader: with the host's search for distinct rows, as against the peers."""

    name: str
    method: str
    level: str = "representation"
    gram_every: int = 1
    loader: bool = False


@dataclass(frozen=True)
class Theirs:
    """A step of the peers': kind "summed" or "<peer>-<level>"."""

    name: str
    kind: str
    method: str = ""


@dataclass(frozen=True)
class Ratio:
    """A row: entry `above` over entry `below`; level is that of our entry, for its floor."""

    case: str
    kind: Kind
    above: str
    below: str
    level: str
    wanted: float | None = None


@dataclass(frozen=True)
class Plan:
    """A world and all that is timed in turns there."""

    world: World
    ours: list[Ours] = field(default_factory=list)
    theirs: list[Theirs] = field(default_factory=list)
    rows: list[Ratio] = field(default_factory=list)


def size(rows: int) -> str:
    """20000 -> "20k"."""
    return f"{rows // 1_000_000}M" if rows >= 1_000_000 else f"{rows // 1000}k"


def plan(tasks: int, rows: int, quick: bool) -> Plan:
    """The entries of one world. T = 8 at 200k rows is the full one."""
    p = Plan(World(tasks, rows))
    where, main = f"T{tasks}-{size(rows)}", rows == 200_000
    full = main and tasks == 8
    p.ours.append(Ours("ew", "ew"))
    if main:
        methods = METHODS if full and not quick else ("upgrad",)
        _over_summed(p, methods, tasks)
    p.ours.append(Ours("shared", "upgrad", "shared"))
    if main:
        bound = 1.05 * (1 + 2 * tasks) / 3
        p.rows.append(Ratio(f"shared-T{tasks}", "overhead", "shared", "ew", "shared", bound))
    if full:
        for k in (4, 16):
            p.ours.append(Ours(f"every-{k}", "upgrad", "shared", k))
            p.rows.append(Ratio(f"gram_every-{k}", "overhead", f"every-{k}", "ew", ""))
        p.rows.append(Ratio("gram_every-1", "overhead", "shared", "ew", "shared"))
    _against(p, where, "shared", "upgrad", full)
    if full and not quick:
        p.ours.append(Ours("shared-nash", "nash", "shared"))
        _against(p, f"{where}-nash", "shared-nash", "nash", False)
    if main:
        _representation(p, where)
    p.ours.append(Ours("ew+loader", "ew", loader=True))
    p.theirs.append(Theirs("torch", "summed"))
    p.rows.append(Ratio(f"torch-summed-{where}", "speedup", "torch", "ew+loader", "summed"))
    return p


def _over_summed(p: Plan, methods: tuple[str, ...], tasks: int) -> None:
    for m in methods:
        name = f"representation-{m}"
        p.ours.append(Ours(name, m))
        bound = 1.25 if tasks <= 8 else None
        case = f"representation-T{tasks}-{m}"
        p.rows.append(Ratio(case, "overhead", name, "ew", "representation", bound))


def _against(p: Plan, where: str, base: str, method: str, rows_too: bool) -> None:
    """The parameter level against both peers."""
    p.ours.append(Ours(f"{base}+loader", method, "shared", loader=True))
    kinds = ["torchjd-shared", "libmtl-shared", *(["torchjd-rows"] if rows_too else [])]
    for kind in kinds:
        peer = kind.removesuffix("-shared")
        name, wanted = f"{kind}-{method}", 5.0 if where == "T8-200k" else None
        p.theirs.append(Theirs(name, kind, method))
        bound = wanted if kind.endswith("shared") else None
        case = f"{peer}-{where}"
        p.rows.append(Ratio(case, "speedup", name, f"{base}+loader", "shared", bound))


def _representation(p: Plan, where: str) -> None:
    """At z, by the one method here that LibMTL has there."""
    p.ours.append(Ours("z+loader", "mgda", loader=True))
    for peer in ("torchjd", "libmtl"):
        name = f"{peer}-representation"
        p.theirs.append(Theirs(name, name, "mgda"))
        case = f"{name}-{where}"
        p.rows.append(Ratio(case, "speedup", name, "z+loader", "representation"))


def plans(quick: bool) -> list[Plan]:
    """The full world first: what is found best there is taken in the others."""
    worlds = [(8, 200_000)]
    if not quick:
        worlds += [(2, 200_000), (4, 200_000), (16, 200_000), (8, 20_000), (8, 2_000_000)]
    return [plan(t, v, quick) for t, v in worlds]

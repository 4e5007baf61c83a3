"""What the machine gives in this run: a matrix product and a sum of vectors, in jax and in torch.

Every benchmark quotes them beside its rows: a ratio of two programs says little without knowing
what either side's matrix product reaches. Stock torch's MKL takes its AVX2 path on processors of
other makers than Intel; `preload` makes the small library that has it look at the processor's
features alone, so that torch can be quoted both as installed and at what it could reach.
"""

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.turns import Unavailable, Worker

SIDE, LENGTH = 2048, 2**25  # of the matrices, of the vectors
GPU_SIDE, GPU_LENGTH = 8192, 2**28  # where a product of 2048 is over before the next is asked for
SHIM = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
HELPS = 1.1  # what the preloaded library must gain in a matrix product to be worth quoting

Peak = dict[str, float]


def of_jax() -> Peak:
    """gflops of a float32 matrix product, gbytes a second of a sum of two vectors; of a GPU also
    bfloat16_gflops. Of random numbers: a GPU is faster on zeros and ones."""
    import jax
    import jax.numpy as jnp

    product, add = jax.jit(lambda x, y: x @ y), jax.jit(lambda x, y: x + y)
    gpu = jax.default_backend() != "cpu"
    n = GPU_SIDE if gpu else SIDE
    v = jnp.ones(GPU_LENGTH if gpu else LENGTH)

    def gflops(dtype: Any) -> float:
        a = jax.random.normal(jax.random.key(0), (n, n), dtype)
        return 2 * n**3 / best(lambda: product(a, a).block_until_ready()) / 1e9

    found = {
        "gflops": gflops(jnp.float32),
        "gbytes": 3 * v.nbytes / best(lambda: add(v, v).block_until_ready()) / 1e9,
    }
    if gpu:
        found["bfloat16_gflops"] = gflops(jnp.bfloat16)
    return found


def of_torch(threads: int = 0) -> Peak:
    """As `of_jax`; on the GPU where there is one."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    gpu = torch.cuda.is_available()
    device, n = ("cuda", GPU_SIDE) if gpu else ("cpu", SIDE)

    def whole(f: Callable[..., Any], *x: Any, out: Any) -> None:
        f(*x, out=out)
        if gpu:
            torch.cuda.synchronize()

    def gflops(dtype: Any) -> float:
        a = torch.randn(n, n, dtype=dtype, device=device)
        out = torch.empty_like(a)
        return 2 * n**3 / best(lambda: whole(torch.mm, a, a, out=out)) / 1e9

    v = torch.ones(GPU_LENGTH if gpu else LENGTH, device=device)
    total = torch.empty_like(v)
    took = best(lambda: whole(torch.add, v, v, out=total))
    found = {"gflops": gflops(torch.float32), "gbytes": 3 * 4 * len(v) / took / 1e9}
    if gpu:
        found["bfloat16_gflops"] = gflops(torch.bfloat16)
    return found


def best(f: Callable[[], Any], times: int = 5) -> float:
    """The least seconds of so many calls after a first one."""
    f()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        f()
        found.append(time.perf_counter() - began)
    return min(found)


def of_workers(workers: Iterable[Worker], known: dict[str, Peak], rounds: int = 2) -> str:
    """Asks every worker's `peak` in turns; the highest so far stays in `known`, "best" over all.

    Returns why one could not answer, "" if all did.
    """
    missing = ""
    for worker in [*workers] * rounds:
        try:
            got = worker.call("peak")
        except Unavailable as error:
            missing = str(error)
            continue
        old = known.get(worker.name, got)
        known[worker.name] = {k: max(v, old[k]) for k, v in got.items()}
    found = [f for name, f in known.items() if name != "best"]
    names = {k for f in found for k in f}
    known["best"] = {k: max(f[k] for f in found if k in f) for k in sorted(names)}
    return missing


def preload(folder: Path) -> dict[str, str]:
    """The environment in which torch's MKL reads the processor's features and not its maker.

    Compiles the library into `folder`. RuntimeError says why there is none: no compiler, or a
    processor without AVX-512 or made by Intel, where nothing is to be gained.
    """
    info = Path("/proc/cpuinfo")
    about = info.read_text() if info.is_file() else ""
    if "avx512f" not in about or "GenuineIntel" in about:
        raise RuntimeError("no processor with AVX-512 that MKL would not use by itself")
    source, library = folder / "mkl_as_intel.c", folder / "mkl_as_intel.so"
    source.write_text(SHIM)
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise RuntimeError(f"no compiler for the preloaded library: {error}") from None
    if done.returncode:
        raise RuntimeError(f"gcc: {done.stderr.strip()[:200]}")
    return {"LD_PRELOAD": str(library.resolve()), "MKL_ENABLE_INSTRUCTIONS": "AVX512"}


def helps(stock: Peak, forced: Peak) -> bool:
    """Whether the preloaded library has done anything."""
    return forced["gflops"] > HELPS * stock["gflops"]

"""Which of several ways to do a step is the fastest: peers are shown at their best."""

import time
from collections.abc import Callable, Mapping
from typing import Any

PATIENCE = 60.0  # seconds after which no further variant is begun once one has run

Step = Callable[[], Any]


def tune(
    steps: Mapping[str, Step], only: list[str] | None = None, tries: int = 2
) -> tuple[str, float, list[list[Any]]]:
    """(the fastest variant, its seconds a step, [variant, seconds or why not] of all tried).

    Every variant runs once to warm up (it may compile), then `tries` times, of which the least
    counts; once is enough for what is hopelessly slow.
    """
    tried: list[list[Any]] = []
    began = time.perf_counter()
    for name in only or list(steps):
        best = min((t[1] for t in tried if not isinstance(t[1], str)), default=1e9)
        if best < 1e9 and time.perf_counter() - began > PATIENCE:
            tried.append([name, "not tried: no time left"])
            continue
        try:
            tried.append([name, _seconds(steps[name], tries, 3 * best)])
        except (RuntimeError, NotImplementedError, ValueError, TypeError, ImportError) as error:
            tried.append([name, (str(error).strip().splitlines() or ["no message"])[0][:200]])
    done = sorted((t for t in tried if not isinstance(t[1], str)), key=lambda t: t[1])
    if not done:
        raise RuntimeError(f"no variant ran: {tried}")
    return done[0][0], done[0][1], done + [t for t in tried if isinstance(t[1], str)]


def _seconds(step: Step, tries: int, enough: float) -> float:
    step()
    found: list[float] = []
    for _ in range(tries):
        began = time.perf_counter()
        step()
        found.append(time.perf_counter() - began)
        if found[0] > enough or sum(found) > 20:
            break
    return min(found)

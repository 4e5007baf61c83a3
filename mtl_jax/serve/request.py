"""A request as rows: one user, many candidate items, one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.types import HostArray
from mtl_jax.data.batch import HOUR, Rows
from mtl_jax.data.history import type_codes
from mtl_jax.data.history_features import Entries
from mtl_jax.data.prepared import Prepared


@dataclass(frozen=True)
class Request:
    """Who asks, when and where.

    user: the source's user id; one that is not known is served by profile, context, popularity.
    profile, context: column -> value, for users without a profile and for the moment's context.
    now: unix seconds; 0 is one second after the last event of the log.
    """

    user: str
    profile: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)
    now: int = 0


@dataclass(frozen=True)
class Known:
    """What the log says of the request: dense user id (0 = unknown), history, consumed items."""

    user: int
    now: int
    items: HostArray  # [n] most recent first
    types: HostArray
    times: HostArray
    rows: HostArray
    consumed: HostArray
    context: dict[str, int]
    profile: dict[str, int]
    user_row: int  # of the users' embedding table


def resolve(data: Prepared, request: Request) -> Known:
    """Look the request up; UserError for columns or values the data does not know."""
    user = _code(data, "users", request.user, "")
    e, schema = data.events, data.schema
    now = request.now or int(e["time"][-1]) + 1
    context = {c.name: 0 for c in schema.context}
    for name, value in request.context.items():
        _known("--context", name, context)
        context[name] = _code(data, f"ctx_{name}", value, f"--context={name}={value}")
    columns = [c.name for c in schema.user_categorical]
    profile = {}
    for name, value in request.profile.items():
        _known("--profile", name, columns)
        profile[name] = _code(data, f"user_cat_{name}", value, f"--profile={name}={value}")
    empty: HostArray = np.zeros(0, np.int64)
    row = data.user_row(user, request.user)
    if not user:
        return Known(0, now, empty, empty, empty, empty, empty, context, profile, row)
    rows = np.flatnonzero(np.asarray(e["user"]) == user)
    rows = rows[np.asarray(e["time"][rows]) < now]
    if not len(rows):
        return Known(user, now, empty, empty, empty, empty, empty, context, profile, row)
    positive = np.asarray(e[f"label_{schema.positive}"][rows]) == 1
    last = rows[-1]
    start, stop = int(e["hist_start"][last]), int(e["hist_stop"][last])
    # The last second's own positives are in no history yet.
    everything = schema.history == "all"
    newest = rows[(np.asarray(e["time"][rows]) == e["time"][last]) & (positive | everything)]
    labels = {v.name: np.asarray(e[f"label_{v.name}"][newest]) for v in schema.labels}
    items = np.concatenate([data.history["item"][start:stop], e["item"][newest]])
    types = np.concatenate(
        [data.history["type"][start:stop], type_codes(schema, labels, everything)]
    )
    times = np.concatenate([data.history["time"][start:stop], e["time"][newest]])
    entries = np.concatenate([data.history["row"][start:stop], newest])
    liked = items[:0] if everything else items
    consumed = np.unique(np.concatenate([liked, e["item"][rows[positive]]]))
    items, types, times, entries = (x[::-1] for x in (items, types, times, entries))
    return Known(user, now, items, types, times, entries, consumed, context, profile, row)


def rows_for(data: Prepared, known: Known, items: HostArray, history: int) -> Rows:
    """One row per candidate item [n], statistics frozen as they are."""
    n = len(items)
    users = np.full(n, known.user, np.int32)
    time = np.full(n, known.now, np.int64)
    context = {k: np.full(n, v, np.int32) for k, v in known.context.items()}
    oldest_first = Entries(
        known.items[::-1], known.times[::-1], *_same_for_all(n, len(known.items))
    )
    stats = data.frozen_features(users, items, context, time, oldest_first)
    age = np.where(known.times > 0, (known.now - known.times) / HOUR, 0.0)

    def latest(values: HostArray, dtype: type, fill: int = 0) -> HostArray:
        out: HostArray = np.full(history, fill, dtype)
        cut = values[:history]
        out[: len(cut)] = cut
        return np.broadcast_to(out, (n, history)).copy()

    return Rows(
        users,
        items.astype(np.int32),
        time,
        latest(known.items, np.int32),
        latest(known.types, np.int32),
        latest(np.log1p(np.maximum(age, 0.0)), np.float32),
        data.history_values(latest(known.rows, np.int64, -1)),
        data.standardised(stats),
        context,
        profile={k: np.full(n, v, np.int32) for k, v in known.profile.items()},
        user_row=np.full(n, known.user_row, np.int32),
    )


def _same_for_all(n: int, length: int) -> tuple[HostArray, HostArray]:
    """Start and stop of one history for n rows."""
    return np.zeros(n, np.int64), np.full(n, length, np.int64)


def _code(data: Prepared, vocabulary: str, value: str, flag: str) -> int:
    """The code of a value; 0, or a UserError naming `flag` if there is one, where it is unknown."""
    known = data.vocabulary(vocabulary)
    code = int(known.encode(pl.Series([value]))[0])
    if flag and not code:
        raise UserError(f"{flag}: the data has no such value. {nearest(value, known.values[1:])}")
    return code


def _known(flag: str, name: str, columns: Mapping[str, int] | list[str]) -> None:
    if name not in columns:
        raise UserError(f"{flag}={name}=...: there is no such column. {nearest(name, columns)}")

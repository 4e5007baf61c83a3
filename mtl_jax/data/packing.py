"""Several texts in one row: best-fit decreasing, and the arrays an encoder reads.

A packed row is cheaper than a padded one: texts of mean length 24 in rows of 128 fill about 97 %.
Shapes: n texts, P rows, L tokens a row.
"""

from dataclasses import dataclass

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray

FULL = 0.97  # share of a row's tokens that texts should have
SEEN = 4096  # texts looked at to choose how long rows are


def pack(lengths: HostArray, L: int) -> tuple[HostArray, HostArray]:
    """Place texts into rows of L tokens, longest first, each into the fullest row that has room.

    Args:
      lengths: int [n]; a text of length 0 lies at row 0, offset 0 and takes no room.
      L: tokens of a row.

    Returns:
      (row_of, offset_of): int32 [n] each. Rows are numbered in the order they are opened, so
      `row_of.max() + 1` rows are used. Equal input gives equal output.

    Raises:
      UserError: a text is longer than L.
    """
    sizes = np.asarray(lengths, np.int64)
    if sizes.size and (sizes.max() > L or sizes.min() < 0):
        bad = int(np.argmax((sizes > L) | (sizes < 0)))
        raise UserError(
            f"text {bad} has {sizes[bad]} tokens and a row holds {L}: "
            "lower max_tokens when preparing, or widen the rows"
        )
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    by_room: list[list[int]] = [[] for _ in range(L + 1)]  # open rows by tokens left
    open_rooms = 0  # bit r is set when by_room[r] is not empty
    used, row_list, offset_list = 0, list[int](), list[int]()
    negative, counts = np.unique(-sizes[order], return_counts=True)
    for size, count in zip((-negative).tolist(), counts.tolist(), strict=True):
        while count:
            fitting = open_rooms >> size
            room = size + (fitting & -fitting).bit_length() - 1 if fitting else L
            # The row that such a text went to has the least room for the next one, until it is
            # full; then comes the next row of the same room. So these are filled at one go.
            each = min(room // size, count)
            most = count // each
            if fitting:  # the least room that suffices
                rows = by_room[room][-most:][::-1]
                del by_room[room][-most:]
                if not by_room[room]:
                    open_rooms &= ~(1 << room)
            else:
                rows = list(range(used, used + most))
                used += most
            row_list += rows if each == 1 else [row for row in rows for _ in range(each)]
            offset_list += [L - room + i * size for i in range(each)] * len(rows)
            count -= each * len(rows)
            left = room - each * size
            if left:
                by_room[left] += rows
                open_rooms |= 1 << left
    row_of, offset_of = np.zeros((2, sizes.size), np.int32)
    row_of[order], offset_of[order] = row_list, offset_list
    return row_of, offset_of


def row_length(lengths: HostArray) -> int:
    """L for texts of these lengths [n]: the shortest of 32, 64, ... that they fill to `FULL`.

    Where none up to four times the longest text does, the one that they fill best: a text attends
    to its row, so short rows cost less.
    """
    sizes = np.asarray(lengths, np.int64)
    sizes = sizes[sizes > 0]
    sizes = sizes[:: max(1, len(sizes) // SEEN)]
    shortest = -(-max(int(sizes.max(initial=1)), 1) // 32) * 32
    best, most = shortest, 0.0
    for L in range(shortest, 4 * shortest + 1, 32):
        full = float(sizes.sum() / ((pack(sizes, L)[0].max(initial=0) + 1) * L))
        if full >= FULL:
            return L
        if full > most:
            best, most = L, full
    return best


@dataclass(frozen=True)
class Places:
    """Where n texts lie: starts and lengths among the tokens, row and offset when packed; [n]."""

    starts: HostArray
    lengths: HostArray
    row_of: HostArray
    offset_of: HostArray

    @property
    def rows(self) -> int:
        """Packed rows used, at least 1."""
        return max(1, int(self.row_of[self.lengths > 0].max(initial=-1)) + 1)


def place(offsets: HostArray, which: HostArray, L: int) -> Places:
    """`pack` the texts `which` [n]; text t is tokens offsets[t]:offsets[t + 1]."""
    wanted = np.asarray(which, np.int64)
    starts = np.asarray(offsets[wanted], np.int64)
    lengths = np.asarray(offsets[wanted + 1], np.int64) - starts
    return Places(starts, lengths, *pack(lengths, L))


def pack_tokens(
    tokens: HostArray,
    offsets: HostArray,
    which: HostArray,
    L: int,
    rows: int | None = None,
    *,
    pad_id: int = 0,
    table: int | None = None,
    places: Places | None = None,
) -> dict[str, HostArray]:
    """The texts `which`, packed into rows of L tokens.

    Args:
      tokens: int32 [total], all texts one behind the other.
      offsets: int64 [texts + 1]; text t is tokens[offsets[t]:offsets[t + 1]].
      which: int [n], the texts wanted; `which[u]` is text u of the result. May be empty texts.
      L: tokens of a row.
      rows: P; None = as many as are needed (at least 1).
      pad_id: id at padding.
      table: owner at padding; None = n. Give U where the table of texts has U > n rows.
      places: what `place` gave for these texts, where that is known.

    Returns:
      ids, segments (0 = padding, 1.. within the row), positions (0-based within the text) and
      owner (index into `which`, `table` = padding), int32 [P, L] each.

    Raises:
      UserError: a text is longer than L, or `rows` do not suffice.
    """
    p = place(offsets, which, L) if places is None else places
    P = p.rows if rows is None else rows
    if p.rows > P:
        raise UserError(
            f"{p.lengths.size} texts of {int(p.lengths.sum())} tokens need {p.rows} rows of {L} "
            f"and {P} are planned: plan more rows, or fewer texts a batch"
        )
    return fill_rows(tokens, p.starts, p.lengths, p.row_of, p.offset_of, (P, L), pad_id, table)


def fill_rows(
    tokens: HostArray,
    starts: HostArray,
    lengths: HostArray,
    row_of: HostArray,
    offset_of: HostArray,
    shape: tuple[int, int],
    pad_id: int = 0,
    table: int | None = None,
) -> dict[str, HostArray]:
    """Write texts at the places `pack` gave them: see `pack_tokens` for what comes back.

    tokens int32 [total]; starts, lengths, row_of, offset_of int [n]; shape (P, L).
    """
    P, L = shape
    n = lengths.size
    text = np.repeat(np.arange(n), lengths)
    ends = np.cumsum(lengths)
    position = np.arange(text.size) - np.repeat(ends - lengths, lengths)
    slot = row_of[text].astype(np.int64) * L + offset_of[text] + position
    out = {
        "ids": np.full(P * L, pad_id, np.int32),
        "segments": np.zeros(P * L, np.int32),
        "positions": np.zeros(P * L, np.int32),
        "owner": np.full(P * L, n if table is None else table, np.int32),
    }
    out["ids"][slot] = tokens[starts[text] + position]
    out["positions"][slot] = position
    out["owner"][slot] = text
    # A text's number within its row, from 1, in the order of its place there.
    order = np.lexsort((offset_of, row_of))
    order = order[lengths[order] > 0]
    row = row_of[order]
    first = np.searchsorted(row, row, side="left")
    number = np.zeros(n, np.int32)
    number[order] = np.arange(order.size) - first + 1
    out["segments"][slot] = number[text]
    return {name: values.reshape(P, L) for name, values in out.items()}

"""Checkpoints: one Orbax step holds the state and, as JSON, all that the loop needs to go on.

A step appears under its number, by one rename, when all its files and their checksums are written.
What a killed or failed save leaves has another name and is removed at the next start.
"""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mtl_jax.core.errors import UserError
from mtl_jax.core.trees import path_of
from mtl_jax.train import checksums, distributed
from mtl_jax.train.disk import full

UNFINISHED, REPLACED = ".orbax-checkpoint-tmp", ".replaced"
PADDING = 4096  # more rows than devices over which a table is spread
# Seconds. Orbax counts them on the wall clock, on which it also waits for folders that it makes
# beside the save: a clock that is set forward must not end a save. One that hangs is the
# supervisor's to notice.
NEVER = 100 * 365 * 24 * 3600


class Checkpoints:
    """The steps of one working folder: the latest two, and the best that the loop told of.

    damaged: step -> what is wrong with it, of the steps that were found damaged on opening. They
    are not among `steps`. For the one training (`owner`) they are moved to workdir/damaged; without
    `owner` the folder is only read.

    Raises UserError: the folder cannot be written; every step in it is damaged.
    """

    def __init__(self, workdir: Path, owner: bool = True) -> None:
        self._best = _Step()
        self._folder = folder = (workdir / "checkpoints").absolute()
        if owner and distributed.first():
            _writable(folder)
            _tidy(folder)
        if owner:
            distributed.barrier("tidied")
        self.damaged = _damaged(folder)
        if owner:
            distributed.barrier("verified")
            if distributed.first():
                for step in self.damaged:
                    _move(folder / str(step), workdir / "damaged" / str(step))
            distributed.barrier("moved")
        keep = preservation_policy.AnyPreservationPolicy(
            [preservation_policy.LatestN(2), self._best]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            temporary_path_class=_Checked,
            async_options=ocp.AsyncOptions(
                timeout_secs=NEVER, create_directories_asynchronously=False
            ),
            read_only=not owner,
        )
        self._manager = ocp.CheckpointManager(folder, options=options)

    def save(self, step: int, state: Any, meta: dict[str, Any], best: int) -> None:
        """Start to write `step`; the write goes on beside the next steps. `best` is kept.

        A step that is there is written anew: a signal during its evaluation saved it without. The
        old one is there until the new one is.

        Raises UserError where the disk is full, now or at the step before; what is whole stays.
        """
        self._best.step = best
        with self._telling_of_a_full_disk(step):
            if step in self._manager.all_steps():
                self._manager.wait_until_finished()
                distributed.barrier("replace")
                if distributed.first():
                    (self._folder / str(step)).rename(self._folder / f"{step}{REPLACED}")
                distributed.barrier("replaced")
                self._manager.reload()
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
                ),
                force=True,
            )

    def wait(self) -> None:
        """Until the step being written is whole. Raises UserError where the disk is full."""
        with self._telling_of_a_full_disk(max(self.steps(), default=0)):
            self._manager.wait_until_finished()
        distributed.barrier("written")

    def latest(self) -> int | None:
        """The newest whole step."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """All whole steps."""
        return sorted(s for s in self._manager.all_steps() if s not in self.damaged)

    def damage(self, step: int) -> str | None:
        """What is wrong with a step now; None if all its files are as they were written."""
        return checksums.damage(self._folder / str(step))

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON of a step."""
        found = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        meta: dict[str, Any] = found["meta"]
        return meta

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state of a step, placed as `abstract_state` (shapes, dtypes, shardings) says."""
        _same_arrays(step, abstract_state, self._folder / str(step) / "state")
        item = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state, strict=False))
        try:
            state = self._manager.restore(step, args=item)["state"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"checkpoint {step} does not fit this configuration (was the model or the data "
                f"changed? use another --workdir): {str(error)[:300]}"
            ) from error
        return state

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if value is None or not distributed.joined():  # others may never come to finish a step
            self.close()

    def close(self) -> None:
        """Finish what is being written."""
        try:
            self._manager.close()
        except Exception as error:
            if not full(error):  # a full disk has been told of by save or wait
                raise

    @contextmanager
    def _telling_of_a_full_disk(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            why = full(error)
            if not why:
                raise
            if distributed.first():
                _tidy(self._folder)  # give back what the unfinished step took
            left = sorted(int(p.name) for p in self._folder.iterdir() if p.name.isdigit())
            whole = f"step {left[-1]} is whole" if left else "no step has been saved yet"
            raise UserError(
                f"--workdir={self._folder.parent}: a checkpoint could not be saved at step {step} "
                f"({why}); {whole}. Make room and start again with the same --workdir to go on"
            ) from error


class _Checked(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A folder while it is written; the checksums of a step are the last before its rename."""

    async def finalize(self) -> None:
        if not self.get_final().name.isdigit():  # an item of a step
            await super().finalize()
            return
        # Orbax writes the step's metadata from a thread of its own.
        if self._checkpoint_metadata_store:
            self._checkpoint_metadata_store.wait_until_finished()
        folder = Path(self.get())
        checksums.write(folder)
        folder.rename(self.get_final())
        shutil.rmtree(f"{self.get_final()}{REPLACED}", ignore_errors=True)


@dataclass
class _Step(preservation_policy.PreservationPolicy):
    """Keeps one step. Orbax's BestN would need its own copy of the metrics to survive a restart."""

    step: int = -1

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [c.step == self.step for c in checkpoints]


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise UserError(f"--workdir: cannot write to {folder}: {error.strerror}") from None


def _tidy(folder: Path) -> None:
    """Remove what unfinished saves left; put back a step that was being replaced."""
    for path in folder.iterdir():
        if UNFINISHED in path.name:
            _remove(path)
        elif path.name.endswith(REPLACED):
            old = path.with_name(path.name.removesuffix(REPLACED))
            if old.exists():
                shutil.rmtree(path)
            else:
                path.rename(old)


def _remove(folder: Path) -> None:
    """Remove a folder into which threads of a failed save may still write for a moment."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _damaged(folder: Path) -> dict[int, str]:
    """What is wrong with each damaged step. UserError if there are steps and all are damaged."""
    steps = sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    found = {int(p.name): what for p in steps if (what := checksums.damage(p)) and p.exists()}
    for step, what in found.items():
        logging.warning("checkpoint %d is damaged and left out: %s", step, what)
    if found and len(found) == len(steps):
        raise UserError(
            f"{folder}: no checkpoint is whole ({'; '.join(found.values())}). Put back a copy of "
            "one, or remove the folder and train again"
        )
    return found


def _move(path: Path, to: Path) -> None:
    if to.exists():
        shutil.rmtree(to)
    to.parent.mkdir(exist_ok=True)
    path.rename(to)


def _holds(have: Any, want: Any, path: str) -> bool:
    """Whether arrays are of one shape, but for rows of zeros behind a table that a mesh wanted.

    How many rows count is the prepared data's to say, which has been found to be the same.
    """
    if re.match("(tables|table_opt)/", path) and have.dtype == want.dtype:
        return have.shape[1:] == want.shape[1:] and abs(have.shape[0] - want.shape[0]) < PADDING
    return (have.shape, have.dtype) == (want.shape, want.dtype)


def _same_arrays(step: int, wanted: Any, stored: Path) -> None:
    """Refuse a checkpoint of other arrays before Orbax casts or cuts them to fit."""
    try:
        with ocp.StandardCheckpointer() as reader:
            tree = reader.metadata(stored).item_metadata.tree
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"checkpoint {step}: {stored} cannot be read: {error}") from error
    there = {array.name: array for array in jax.tree.leaves(tree)}
    for path, want in jax.tree_util.tree_flatten_with_path(wanted)[0]:
        have = there.pop(jax.tree_util.keystr(path, simple=True, separator="."), None)
        if have is None:
            found = "is not in it"
        elif not _holds(have, want, path_of(path)):
            found = f"is {have.dtype}{list(have.shape)}"
        else:
            continue
        raise UserError(
            f"checkpoint {step}: {path_of(path)} {found}, this configuration needs "
            f"{want.dtype}{list(want.shape)}: use another --workdir"
        )
    if there:
        raise UserError(
            f"checkpoint {step} has {min(there)!r}, which this configuration does not: use another "
            "--workdir"
        )

"""Checkpoints: one Orbax step holds the state and, as JSON, all that the loop needs to go on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mtl_jax.core.errors import UserError
from mtl_jax.core.trees import path_of


class Checkpoints:
    """The steps of one working folder: the latest two, and the best that the loop told of."""

    def __init__(self, workdir: Path) -> None:
        self._best = _Step()
        keep = preservation_policy.AnyPreservationPolicy(
            [preservation_policy.LatestN(2), self._best]
        )
        folder = (workdir / "checkpoints").absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            raise UserError(f"--workdir: cannot write to {folder}: {error.strerror}") from None
        self._folder = folder
        self._manager = ocp.CheckpointManager(
            folder, options=ocp.CheckpointManagerOptions(preservation_policy=keep)
        )

    def save(self, step: int, state: Any, meta: dict[str, Any], best: int) -> None:
        """Start to write `step`; the write goes on beside the next steps. `best` is kept.

        A step that is there is written anew: a signal during its evaluation saved it without.
        """
        self._best.step = best
        if step in self._manager.all_steps():
            self._manager.delete(step)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
            ),
            force=True,
        )

    def wait(self) -> None:
        """Until the step being written is whole."""
        self._manager.wait_until_finished()

    def latest(self) -> int | None:
        """The newest whole step."""
        step: int | None = self._manager.latest_step()
        return step

    def steps(self) -> list[int]:
        """All whole steps."""
        return sorted(self._manager.all_steps())

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON of a step."""
        found = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        meta: dict[str, Any] = found["meta"]
        return meta

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state of a step, placed as `abstract_state` (shapes, dtypes, shardings) says."""
        _same_arrays(step, abstract_state, self._folder / str(step) / "state")
        item = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        try:
            state = self._manager.restore(step, args=item)["state"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"checkpoint {step} does not fit this configuration (was the model or the data "
                f"changed? use another --workdir): {str(error)[:300]}"
            ) from error
        return state

    def close(self) -> None:
        """Finish what is being written."""
        self._manager.close()


@dataclass
class _Step(preservation_policy.PreservationPolicy):
    """Keeps one step. Orbax's BestN would need its own copy of the metrics to survive a restart."""

    step: int = -1

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [c.step == self.step for c in checkpoints]


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
        elif (have.shape, have.dtype) != (want.shape, want.dtype):
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

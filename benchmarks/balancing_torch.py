"""The recommender of the balancing benchmark in torch, its optimisers and its summed step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.balancing_data import BOTTOM, HEAD, TABLES, WIDTH, HostArray, World, distinct

Inputs = dict[str, Any]
RATE = 1e-4


class Encoder(nn.Module):
    """All that tasks share: embeddings and bottom, inputs -> z [B, 256].

    sparse: embedding gradients as (ids, rows).
    """

    def __init__(self, world: World, sparse: bool = False) -> None:
        super().__init__()
        self.tables = nn.ModuleDict(
            {k: nn.Embedding(world.table_rows, WIDTH, sparse=sparse) for k in TABLES}
        )
        self.bottom = nn.Sequential(
            nn.Linear(3 * WIDTH, BOTTOM[0]), nn.ReLU(), nn.Linear(*BOTTOM), nn.ReLU()
        )

        # The bottom by torch.compile; in a list, or its parameters would be counted twice.
        self.fused: list[Any] = []
        self._compiled = [torch.compile(self.bottom)]

    def forward(self, inputs: Inputs, rows: Mapping[str, Any] | None = None) -> Any:
        """z [B, 256]. rows: what the ids are indices into, in place of the tables."""

        def look(table: str, ids: str) -> Any:
            if rows is None:
                return self.tables[table](inputs[ids])
            return functional.embedding(inputs[ids], rows[table])

        parts = (look("user", "user"), look("item", "item"), look("item", "history").mean(1))
        bottom = self.fused[0] if self.fused else self.bottom
        return bottom(torch.cat(parts, -1))

    def fuse(self, on: bool) -> None:
        """Whether `torch.compile` runs the bottom."""
        self.fused = self._compiled if on else []


def head() -> Any:
    """z -> logit [B]."""
    return nn.Sequential(nn.Linear(BOTTOM[1], HEAD), nn.ReLU(), nn.Linear(HEAD, 1), nn.Flatten(0))


class Recommender(nn.Module):
    """Encoder and heads t0, t1, ..."""

    def __init__(self, world: World, sparse: bool = False) -> None:
        super().__init__()
        self.world = world
        self.encoder = Encoder(world, sparse)
        self.heads = nn.ModuleDict({f"t{n}": head() for n in range(world.tasks)})

    def losses_of(self, z: Any, inputs: Inputs) -> list[Any]:
        """T scalars."""
        return [
            functional.binary_cross_entropy_with_logits(h(z), inputs["label"][n])
            for n, h in enumerate(self.heads.values())
        ]

    def forward(self, inputs: Inputs) -> list[Any]:
        """T losses."""
        return self.losses_of(self.encoder(inputs), inputs)


def load(
    model: Recommender, weights: Mapping[str, HostArray], tables: Mapping[str, HostArray]
) -> None:
    """Puts the numpy weights into the model; tables are copied."""
    with torch.no_grad():
        for name, values in tables.items():
            model.encoder.tables[name].weight.copy_(torch.from_numpy(values))
        for name, values in weights.items():
            *path, number, part = name.split("/")
            stack = model.encoder.bottom
            if path[0] == "heads":
                stack = model.heads[path[1].removeprefix("head_")]
            layer: Any = stack[2 * int(number)]
            if part == "kernel":
                layer.weight.copy_(torch.from_numpy(values).T)
            else:
                layer.bias.copy_(torch.from_numpy(values))


def to_torch(batch: Mapping[str, HostArray]) -> Inputs:
    """The batch as tensors."""
    return {k: torch.from_numpy(v) for k, v in batch.items()}


def gather(model: Recommender, batch: dict[str, HostArray]) -> tuple[Inputs, dict[str, Any]]:
    """By hand what the project's loader and step do: distinct rows as leaves, indices into them."""
    inputs = to_torch(distinct(batch))
    with torch.no_grad():
        rows = {k: t.weight[inputs[f"uniq/{k}"]] for k, t in model.encoder.tables.items()}
    return inputs, {k: r.requires_grad_() for k, r in rows.items()}


def scatter(model: Recommender, inputs: Inputs, rows: Mapping[str, Any]) -> None:
    """The rows' gradients as the tables' sparse gradients."""
    for name, table in model.encoder.tables.items():
        ids = inputs[f"uniq/{name}"][None]
        shape = table.weight.shape
        table.weight.grad = torch.sparse_coo_tensor(
            ids, rows[name].grad, shape, is_coalesced=True, check_invariants=False
        )


class Optimisers:
    """Fused Adam, and SparseAdam on tables whose gradients are sparse."""

    def __init__(self, model: Recommender) -> None:
        sparse = [e.weight for e in model.encoder.tables.values() if e.sparse]
        known = {id(p) for p in sparse}
        dense = [p for p in model.parameters() if id(p) not in known]
        self.sparse = bool(sparse)
        self.all = [torch.optim.Adam(dense, lr=RATE, fused=True)]
        if sparse:
            self.all.append(torch.optim.SparseAdam(sparse, lr=RATE))

    def zero(self) -> None:
        """No gradients, rather than zeros."""
        for o in self.all:
            o.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Applies the gradients."""
        for o in self.all:
            o.step()


# Takes a batch as the loader of a torch user gives it; the tensors are made beforehand.
Step = Callable[[dict[str, HostArray], Inputs], Any]


def summed(model: Recommender, optimisers: Optimisers) -> dict[str, Step]:
    """The sum of losses, one backward pass."""

    def step(batch: dict[str, HostArray], inputs: Inputs) -> Any:
        optimisers.zero()
        losses = model(inputs)
        torch.stack(losses).sum().backward()
        optimisers.step()
        return losses

    def by_rows(batch: dict[str, HostArray], inputs: Inputs) -> Any:
        optimisers.zero()
        inputs, rows = gather(model, batch)
        losses = model.losses_of(model.encoder(inputs, rows), inputs)
        torch.stack(losses).sum().backward()
        scatter(model, inputs, rows)
        optimisers.step()
        return losses

    if optimisers.sparse:
        return {"sparse gradients": step, "rows by hand": by_rows}
    return {"dense gradients": step}

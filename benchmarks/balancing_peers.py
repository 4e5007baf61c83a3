"""Steps of TorchJD and LibMTL on the torch recommender, in every way their users could choose.

Each function returns {variant: step}; the benchmark times all variants and takes the fastest.
LibMTL is a clone of median-research-group/LibMTL, whose classes are used as its trainer uses them.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.balancing_data import HostArray
from benchmarks.balancing_torch import Inputs, Optimisers, Recommender, Step, gather, scatter

TORCHJD = {
    "upgrad": "UPGrad",
    "mgda": "MGDA",
    "pcgrad": "PCGrad",
    "cagrad": "CAGrad",
    "nash": "NashMTL",
}
LIBMTL = {
    "upgrad": "UPGrad",
    "mgda": "MGDA",
    "pcgrad": "PCGrad",
    "cagrad": "CAGrad",
    "nash": "Nash_MTL",
}
# The defaults of LibMTL.config, which cannot be imported without its trainer.
LIBMTL_OPTIONS: dict[str, dict[str, Any]] = {
    "upgrad": {"UPGrad_norm_eps": 1e-4, "UPGrad_reg_eps": 1e-4},
    "mgda": {"mgda_gn": "none"},
    "pcgrad": {},
    "cagrad": {"calpha": 0.5, "rescale": 1},
    "nash": {"update_weights_every": 1, "optim_niter": 20, "max_norm": 1.0},
}


def aggregator(method: str, tasks: int) -> Any:
    """TorchJD's aggregator with its defaults."""
    jd = importlib.import_module("torchjd.aggregation")
    given: dict[str, dict[str, Any]] = {"cagrad": {"c": 0.5}, "nash": {"n_tasks": tasks}}
    options = given.get(method, {})
    return getattr(jd, TORCHJD[method])(**options)


def torchjd_shared(model: Recommender, optimisers: Optimisers, method: str) -> dict[str, Step]:
    """Jacobian with respect to all shared parameters, or its Gramian by the autogram engine."""
    autojac = importlib.import_module("torchjd.autojac")
    agg = aggregator(method, model.world.tasks)
    shared = list(model.encoder.parameters())
    heads = [list(h.parameters()) for h in model.heads.values()]
    by_gramian = hasattr(agg, "gramian_weighting")

    def jacobian(chunk: int | None, gramian: bool) -> Step:
        options = {"optimize_gramian_computation": True} if gramian else {}

        def step(batch: dict[str, HostArray], inputs: Inputs) -> Any:
            optimisers.zero()
            z = model.encoder(inputs)
            losses = model.losses_of(z, inputs)
            autojac.mtl_backward(
                losses,
                features=z,
                tasks_params=heads,
                shared_params=shared,
                parallel_chunk_size=chunk,
            )
            autojac.jac_to_grad(shared, agg, **options)
            optimisers.step()
            return losses

        return step

    found: dict[str, Step] = {}  # those that were fastest in trials first
    if by_gramian:
        found["mtl_backward, one by one, summed Gramian"] = jacobian(1, True)
        found["mtl_backward, summed Gramian"] = jacobian(None, True)
    found["mtl_backward, one by one"] = jacobian(1, False)
    found["mtl_backward"] = jacobian(None, False)
    if by_gramian:
        found["engine"] = _engine(model, optimisers, agg.gramian_weighting)
    return found


def torchjd_rows(model: Recommender, optimisers: Optimisers, method: str) -> dict[str, Step]:
    """Our trick in its hands: the Jacobian with respect to the batch's distinct rows.

    A user would have to write this: neither TorchJD nor LibMTL takes sparse gradients.
    """
    autojac = importlib.import_module("torchjd.autojac")
    agg = aggregator(method, model.world.tasks)
    bottom = list(model.encoder.bottom.parameters())
    heads = [list(h.parameters()) for h in model.heads.values()]
    options = {"optimize_gramian_computation": True} if hasattr(agg, "gramian_weighting") else {}

    def make(chunk: int | None) -> Step:
        def step(batch: dict[str, HostArray], inputs: Inputs) -> Any:
            optimisers.zero()
            inputs, rows = gather(model, batch)
            shared = [*rows.values(), *bottom]
            z = model.encoder(inputs, rows)
            losses = model.losses_of(z, inputs)
            autojac.mtl_backward(
                losses,
                features=z,
                tasks_params=heads,
                shared_params=shared,
                parallel_chunk_size=chunk,
            )
            autojac.jac_to_grad(shared, agg, **options)
            scatter(model, inputs, rows)
            optimisers.step()
            return losses

        return step

    return {"rows, mtl_backward": make(None), "rows, mtl_backward, one by one": make(1)}


def _engine(model: Recommender, optimisers: Optimisers, weighting: Any) -> Step:
    """Gramian by torchjd.autogram, then a weighted sum; the heads are weighted too."""
    made: list[Any] = []

    def step(batch: dict[str, HostArray], inputs: Inputs) -> Any:
        if not made:  # it hooks the modules, so only when this variant runs
            autogram = importlib.import_module("torchjd.autogram")
            made.append(autogram.Engine(model.encoder, batch_dim=None))
        optimisers.zero()
        losses = torch.stack(model(inputs))
        weights = weighting(made[0].compute_gramian(losses))
        losses.backward(weights)
        optimisers.step()
        return losses

    return step


def torchjd_representation(
    model: Recommender, optimisers: Optimisers, method: str
) -> dict[str, Step]:
    """Task gradients with respect to z, aggregated there, one backward pass of the rest."""
    autojac = importlib.import_module("torchjd.autojac")
    agg = aggregator(method, model.world.tasks)
    heads = [list(h.parameters()) for h in model.heads.values()]

    def step(batch: dict[str, HostArray], inputs: Inputs) -> Any:
        optimisers.zero()
        z = model.encoder(inputs)
        cut = z.detach().requires_grad_()
        losses = model.losses_of(cut, inputs)
        autojac.mtl_backward(losses, features=cut, tasks_params=heads, shared_params=[cut])
        autojac.jac_to_grad([cut], agg)
        z.backward(cut.grad)
        optimisers.step()
        return losses

    def by_hand(batch: dict[str, HostArray], inputs: Inputs) -> Any:
        optimisers.zero()
        z = model.encoder(inputs)
        cut = z.detach().requires_grad_()
        losses = model.losses_of(cut, inputs)
        rows = []
        for loss in losses:
            cut.grad = None
            loss.backward()
            rows.append(cut.grad.flatten())
        z.backward(agg(torch.stack(rows)).view_as(z))
        optimisers.step()
        return losses

    return {"mtl_backward at z": step, "backward per task, aggregator at z": by_hand}


def find_libmtl(folder: str) -> None:
    """Lets `LibMTL.weighting` be imported without the package's trainer, models and their needs."""
    root = Path(folder) / "LibMTL"
    if not (root / "weighting" / "abstract_weighting.py").is_file():
        raise ModuleNotFoundError(f"{folder}: no clone of median-research-group/LibMTL")
    for name in ("LibMTL", "LibMTL.weighting", "LibMTL.architecture"):
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules.setdefault(name, package)


def libmtl(
    model: Recommender, optimisers: Optimisers, method: str, rep_grad: bool
) -> dict[str, Step]:
    """LibMTL's hard parameter sharing with one of its weightings, as its trainer composes them."""
    name = LIBMTL[method]
    weighting = getattr(importlib.import_module(f"LibMTL.weighting.{name}"), name)
    sharing = importlib.import_module("LibMTL.architecture.HPS").HPS
    names = list(model.heads)

    class Both(sharing, weighting):  # type: ignore[misc, valid-type]
        """One model of architecture and weighting."""

    both = Both(
        task_name=names,
        encoder_class=nn.Identity,
        decoders=model.heads,
        rep_grad=rep_grad,
        multi_input=False,
        device=torch.device("cpu"),
    )
    both.encoder = model.encoder
    both.init_param()
    options = LIBMTL_OPTIONS[method]
    bce = nn.functional.binary_cross_entropy_with_logits

    def make(none: bool) -> Step:
        def step(batch: dict[str, HostArray], inputs: Inputs) -> Any:
            for o in optimisers.all:
                o.zero_grad(set_to_none=none)
            logits = both(inputs)
            losses = torch.stack([bce(logits[k], inputs["label"][n]) for n, k in enumerate(names)])
            both.backward(losses, **options)
            optimisers.step()
            return losses

        return step

    return {"gradients to none": make(True), "gradients to zero": make(False)}

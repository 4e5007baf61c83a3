"""Against what TorchJD and LibMTL return on two small matrices (float64), 1e-4 relative."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jacobians import close, run

from mtl_jax import balance
from mtl_jax.balance.gramian import correlation

ORACLE = Path(__file__).parents[3] / "shared" / "oracle" / "aggregators.json"
pytestmark = [
    pytest.mark.skipif(not ORACLE.exists(), reason=f"{ORACLE.name} is not here"),
    pytest.mark.usefixtures("quick_compilation"),
]
MOCO = "MoCo(MoCo_beta=0.5,MoCo_beta_sigma=0.5,MoCo_gamma=0.1,MoCo_gamma_sigma=0.5,MoCo_rho=0)"
NASH = "Nash_MTL(update_weights_every=1,optim_niter=20,max_norm={})"
T, L = "torchjd", "libmtl"
ENTRIES = [
    ("upgrad", T, "UPGrad_reg1e8", {}),
    ("mgda", T, "MGDA_tight", {}),
    ("mgda", L, "MGDA(mgda_gn=none)", {}),
    ("mgda", L, "MGDA(mgda_gn=l2)", {"normalise": "l2"}),
    ("mgda", L, "MGDA(mgda_gn=loss)", {"normalise": "loss"}),
    ("mgda", L, "MGDA(mgda_gn=loss+)", {"normalise": "loss+"}),
    ("cagrad", T, "CAGrad05", {}),
    ("cagrad", L, "CAGrad(calpha=0.5,rescale=1)", {"rescale": 1}),
    ("cagrad", L, "CAGrad(calpha=0.5,rescale=0)", {}),
    ("nash", T, "NashMTL", {}),
    ("nash", T, "NashMTL_nonorm", {"max_norm": 0.0}),
    ("nash", L, NASH.format("1.0"), {}),
    ("nash", L, NASH.format("0.0"), {"max_norm": 0.0}),
    ("fairgrad", T, "FairGrad1", {}),
    ("fairgrad", T, "FairGrad2", {"alpha": 2.0}),
    ("fairgrad", L, "FairGrad(FairGrad_alpha=2.0)", {"alpha": 2.0}),
    ("imtl_g", T, "IMTLG", {}),
    ("imtl", L, "IMTL", {}),
    ("config", T, "ConFIG", {}),
    ("aligned_mtl", T, "AlignedMTL_min", {}),
    ("aligned_mtl", T, "AlignedMTL_rmse", {"scale": "rmse"}),
    ("aligned_mtl", T, "AlignedMTL_median", {"scale": "median"}),
    ("pcd", T, "PCD", {}),
    ("ew", L, "EW", {}),
    ("uw", L, "UW", {"start": -0.5}),
    ("gls", L, "GLS", {}),
    ("dwa", L, "DWA(T=2.0)", {}),
    ("stch", L, "STCH(STCH_mu=1.0,STCH_warmup_epoch=4)", {"form": "log"}),
    ("famo", L, "FAMO(FAMO_w_lr=0.025,FAMO_w_gamma=0.001)", {}),
    ("gradnorm", L, "GradNorm(alpha=1.5)", {}),
    ("excess_mtl", L, "ExcessMTL(robust_step_size=0.01)", {}),
    ("moco", L, MOCO, {}),
    ("db_mtl", L, "DB_MTL(DB_beta=0.9,DB_beta_sigma=0)", {}),
    ("modo", L, "MoDo(MoDo_gamma=0.001,MoDo_rho=0.1)", {"gamma": 0.001}),
    ("sdmgrad", L, "SDMGrad(SDMGrad_lamda=0.3,SDMGrad_niter=20)", {}),
]


@pytest.fixture(scope="module")
def oracle():
    return json.loads(ORACLE.read_text())


@pytest.mark.parametrize("case", ["J2", "J3"])
@pytest.mark.parametrize(("name", "library", "entry", "options"), ENTRIES)
def test_aggregates_agree(oracle, case, name, library, entry, options):
    told = oracle[case]
    _, found = run(name, np.array(told["J"]), told["losses"], **options)
    close(found, told[library][entry]["agg"])


@pytest.mark.parametrize("case", ["J2", "J3"])
@pytest.mark.parametrize(
    ("name", "entry", "options"),
    [
        ("gls", "GeometricMean", {}),
        ("ew", "Sum", {}),
        ("fixed", "Constant", {"weights": (1.0, 2.0, 3.0)}),
        ("uw", "UW", {}),
        ("imtl_l", "IMTLL", {}),
        ("stch", "STCH_mu1", {}),
        ("stch", "STCH_mu01", {"mu": 0.1}),
        ("famo", "FAMO", {}),
        ("dwa", "DWA", {}),
    ],
)
def test_slopes_of_scalarised_losses_agree(oracle, case, name, entry, options):
    told = oracle[case]
    if "weights" in options:
        options = {"weights": options["weights"][: len(told["losses"])]}
    found, _ = run(name, np.array(told["J"]), told["losses"], **options)
    close(found.weights, told["scalarizers"][entry]["dL"])


def surgery_of_every_order(G, project):
    """Weights for every combination of orders, one order a task."""
    n = len(G)
    orders = list(itertools.permutations(range(n)))
    for chosen in itertools.product(orders, repeat=n):
        yield sum(project(G, i, [j for j in chosen[i] if j != i]) for i in range(n))


def pcgrad_row(G, i, order):
    c = np.eye(len(G))[i]
    for j in order:
        c[j] -= min(c @ G[j], 0.0) / G[j, j]
    return c


def gradvac_row(G, i, order):
    return pcgrad_row(G, i, order)  # the first targets are 0


@pytest.mark.parametrize("case", ["J2", "J3"])
@pytest.mark.parametrize(("name", "entry"), [("pcgrad", "PCGrad"), ("gradvac", "GradVac")])
def test_surgery_is_one_of_the_possible_orders(oracle, case, name, entry):
    told = oracle[case]
    J = np.array(told["J"])
    possible = np.array(list(surgery_of_every_order(J @ J.T, pcgrad_row))) @ J
    theirs = np.array(told[T][entry]["agg"])
    assert np.abs(possible - theirs).max(1).min() < 1e-6, "the oracle's own is among them"
    seen = set()
    for n in range(20):
        _, found = run(name, J, key=jax.random.PRNGKey(n))
        gaps = np.abs(possible - found).max(1)
        assert gaps.min() < 1e-4 * np.abs(found).max()
        seen.add(int(np.round(found[0], 4) * 1e4))
    assert len(seen) > 1 or case == "J2", "orders are drawn"


def test_famo_after_an_update(oracle):
    for case in ("J2", "J3"):
        told = oracle[case]
        n = len(told["losses"])
        before = np.array(told["losses"])
        b = balance.get("famo")
        stats = balance.Stats(
            jnp.asarray(before, jnp.float32), jnp.ones(n), jnp.int32(0),
            losses_after=jnp.asarray(before * np.linspace(0.9, 1.05, n), jnp.float32),
        )  # fmt: skip
        state = b.update(stats, b.init(n), None).state
        expected = told["scalarizers"]["FAMO_after_update(L*linspace(.9,1.05,T))"]
        close(state["w"], expected["w"])
        close(jax.nn.softmax(state["w"]), expected["z"])


def test_the_given_gramians_are_those_of_j(oracle):
    for told in oracle.values():
        J = np.array(told["J"])
        np.testing.assert_allclose(J @ J.T, told["gramian"])
        c = correlation(np.float32(J @ J.T), np.ones(len(J), np.float32))
        np.testing.assert_allclose(c.d, np.linalg.norm(J, axis=1), rtol=1e-6)

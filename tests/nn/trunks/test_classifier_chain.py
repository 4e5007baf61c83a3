import numpy as np
import pytest
from trunk_cases import (
    DZ,
    NAMES,
    Z,
    assert_outputs,
    case,
    config,
    head,
    stack,
    stack_size,
    trunk_size,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_a_head_reads_the_logits_of_those_before_it():
    found = case("classifier_chain")
    x = stack(found.trunk(), Z)
    longer = np.concatenate([x, head(found, "click", x)[..., None]], -1)
    assert_outputs(found, {"click": x, "purchase": longer, "rating": x, "kind": x})
    assert found.params["head_purchase"]["out"]["kernel"].shape == (4, 1)
    assert trunk_size(config("classifier_chain")) == stack_size(DZ)


def test_a_link_is_not_trained_by_those_after_it():
    reach = case("classifier_chain").reached()
    for task in NAMES:
        assert reach[f"head_{task}/out/kernel"] == {task}

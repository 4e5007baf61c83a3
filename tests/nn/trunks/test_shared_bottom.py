import pytest
from trunk_cases import (
    DZ,
    NAMES,
    Z,
    assert_outputs,
    case,
    config,
    shapes_of,
    stack,
    stack_size,
    trunk_size,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_head_reads_the_same_stack():
    found = case("shared_bottom")
    assert_outputs(found, dict.fromkeys(NAMES, stack(found.trunk(), Z)))
    assert trunk_size(config("shared_bottom")) == stack_size(DZ)


def test_without_layers_the_heads_read_z():
    assert "trunk" not in shapes_of(config("shared_bottom", trunk_widths=()))

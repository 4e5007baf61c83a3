import pytest
from trunk_cases import DZ, NAMES, Z, assert_outputs, case, config, stack, stack_size, trunk_size

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_task_has_a_stack_of_its_own_that_no_other_loss_reaches():
    found = case("single_task")
    p = found.trunk()
    assert_outputs(found, {task: stack(p[f"task_{task}"], Z) for task in NAMES})
    assert trunk_size(config("single_task")) == 4 * stack_size(DZ)
    for path, tasks in found.reached().items():
        own = path.split("/")[1].removeprefix("task_") if path.startswith("trunk") else ""
        assert tasks == {own or path.split("/")[0].removeprefix("head_")}, path

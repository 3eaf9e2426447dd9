"""Items run in this process."""

from __future__ import annotations

from gqs.errors import BadInputError
from gqs.executors import Retry, report_step
from gqs.executors.inline import InlineExecutor

TRIED: list[int] = []


def work(item: int) -> int | Retry:
    report_step(f"step of {item}")
    if item == 2 and item not in TRIED:
        TRIED.append(item)
        return Retry("once more")
    if item == 3:
        raise BadInputError("three is bad")
    return item * item


def test_outcomes_come_in_order_with_retries_errors_and_steps() -> None:
    steps: list[str] = []
    outcomes = list(InlineExecutor(steps.append).run(work, [1, 2, 3, 4]))
    assert [outcome.result for outcome in outcomes] == [1, 4, None, 16]
    assert str(outcomes[2].error) == "three is bad"
    assert steps.count("step of 2") == 2
    report_step("after the run")
    assert len(steps) == 5

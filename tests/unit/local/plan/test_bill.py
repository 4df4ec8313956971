"""The bill of AWS: what a request is counted as, and that the deployment counted is the one in the template."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.blocking import at_once
from api.waiting import polling
from darkroom.contracts import GenerationRequest, Job, JobStatus
from darkroom.scaling.prices import read_prices
from local.plan.bill import BilledDeployment, bill, looks
from local.plan.simulation import Outcome

PRICES = read_prices()
INSTANCE = PRICES.price("ml.g5.xlarge")
ONE = Outcome("one", 1, 0, 2.0, 2.0, 2.0, 0, 0, 0, 24.0, (), (2.0,))


def billed(outcome: Outcome, hours: float = 0.0, **told: Any) -> dict[str, float]:
    assert PRICES.aws
    return bill(outcome, hours, INSTANCE, PRICES.aws, replace(BilledDeployment(), **told))


def test_an_hour_of_an_instance_is_billed_whether_or_not_it_works() -> None:
    assert billed(replace(ONE, latencies=()))["SageMaker"] == pytest.approx(24 * INSTANCE.per_hour)
    assert sum(billed(replace(ONE, latencies=(), replica_hours=0.0)).values()) == 0


def test_a_million_requests_that_wait_for_nothing() -> None:
    """Worked out by hand from the list prices of the table's date."""
    million = billed(replace(ONE, latencies=(0.0,) * 1_000_000), handler=0.0, event=0.0, image_kilobytes=1000)
    assert million["API Gateway"] == pytest.approx(1.00)
    assert million["Lambda"] == pytest.approx(2 * 0.20)
    assert million["DynamoDB"] == pytest.approx(9 * 0.625 + 2 * 0.125)
    assert million["SNS"] == pytest.approx(0.50)
    assert million["S3"] == pytest.approx(2 * 5.00 + 3 * 0.40 + 1000 * 0.023)
    assert million["images sent out"] == pytest.approx(1000 * 0.09)


def test_who_waits_is_billed_for_it_and_who_has_waited_asks_again() -> None:
    waited = billed(ONE, handler=0.0, event=0.0)
    assert waited["Lambda"] == pytest.approx(2.0 * 0.0000133334 + 2 * 0.2e-6)
    longer = billed(replace(ONE, latencies=(35.0,)), handler=0.0, event=0.0)
    assert longer["Lambda"] == pytest.approx(25.0 * 0.0000133334 + 12 * 0.2e-6)
    assert longer["API Gateway"] == pytest.approx(11e-6)


def test_the_schedules_are_billed_without_any_request() -> None:
    idle = billed(replace(ONE, latencies=(), replica_hours=0.0), hours=24.0)
    assert idle["Lambda"] == pytest.approx(72 * 24 * (0.5 * 0.0000133334 + 0.2e-6))


@pytest.mark.parametrize("seconds", [0.0, 0.04, 1.0, 2.5, 25.0])
def test_looks_are_counted_as_the_handler_looks(seconds: float) -> None:
    job = Job(
        id="0" * 32,
        tenant="t",
        model="tiny",
        request=GenerationRequest(prompt="a"),
        status=JobStatus.QUEUED,
        created_at=time.time(),
    )
    counted, now = 0, 0.0

    class Never:
        def get(self, _id: str, *, tenant: str) -> Job:
            nonlocal counted
            counted += 1
            return job

    async def sleep(pause: float) -> None:
        nonlocal now
        now += pause

    async def wait() -> None:
        await polling(Never(), at_once, clock=lambda: now, sleep=sleep)(job, seconds)  # type: ignore[arg-type]

    asyncio.run(wait())
    assert looks(seconds) == counted


def test_the_deployment_is_the_templates(pytestconfig: pytest.Config) -> None:
    template = (Path(pytestconfig.rootpath) / "template.yaml").read_text(encoding="utf-8")
    told = BilledDeployment()

    def of(resource: str, name: str) -> str:
        section = re.search(rf"^  {resource}:\n(?:(?:    .*)?\n)+", template, re.MULTILINE)
        assert section
        found = re.search(rf"^ +{name}: (.+)$", section[0], re.MULTILINE)
        assert found
        return found[1]

    assert int(of("ApiFunction", "MemorySize")) == told.api_gb * 1024
    assert {int(of(name, "MemorySize")) for name in ("JobEventsFunction", "ScaleFunction")} == {told.event_gb * 1024}
    every = {"rate(1 minute)": 60, "rate(5 minutes)": 12}
    ticks = sum(every[of(name, "ScheduleExpression")] for name in ("OverdueTick", "ScaleTick"))
    assert ticks == told.ticks_an_hour
    assert int(of("ImageDays", "Default")) == told.image_days

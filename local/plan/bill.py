"""What a trace would come to on AWS, service by service: the instances, and what each request is billed for."""

from __future__ import annotations

from dataclasses import dataclass

from api.waiting import FIRST_PAUSE, LONGEST_PAUSE, PAUSE_GROWTH
from darkroom.scaling.prices import Price, ServicePrices
from local.plan.simulation import Outcome

_MILLION, _GB, _MONTH_DAYS = 1e6, 1e9, 30.0


@dataclass(frozen=True)
class BilledDeployment:
    """template.yaml in figures; seconds, gigabytes of a function's memory, units of DynamoDB's tables.

    A predict waits for its image up to `wait`; who has none by then asks for the job each second, as Retry-After says.
    Writes: the number of the job 1, the job (up to 2 KB) 2, its end (up to 3 KB) 3, and its place in the index of the
    queue 1 + 2. Reads: the length of the queue 1, the job when its notification comes 1, and one each time the waiting
    handler or the caller looks. S3: the image and SageMaker's own answer are written, the image is looked up once and
    both are read once.
    """

    wait: float = 25.0
    handler: float = 0.01
    api_gb: float = 1.0
    event_gb: float = 0.5
    event: float = 0.1
    ticks_an_hour: int = 60 + 12  # the sweep of overdue jobs, and scaling
    tick: float = 1.0
    writes: int = 9
    reads: int = 2
    s3_writes: int = 2
    s3_reads: int = 3
    image_kilobytes: float = 400.0
    image_days: float = 30.0


def looks(seconds: float) -> int:
    """How often the handler reads the job while it waits for so long (see `api.waiting.polling`)."""
    spent, pause, count = 0.0, FIRST_PAUSE, 0
    while spent < seconds:
        spent += min(pause, seconds - spent)
        pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE)
        count += 1
    return count


def bill(
    outcome: Outcome, hours: float, instance: Price, aws: ServicePrices, deployed: BilledDeployment | None = None
) -> dict[str, float]:
    """Service -> money, for `outcome` over an interval of so many hours."""
    deployed = deployed or BilledDeployment()
    requests = len(outcome.latencies)
    waits = [min(latency, deployed.wait) for latency in outcome.latencies]
    polls = sum(int(max(latency - deployed.wait, 0.0)) for latency in outcome.latencies)
    ticks = deployed.ticks_an_hour * hours
    busy = deployed.api_gb * (sum(waits) + deployed.handler * (requests + polls))
    busy += deployed.event_gb * (deployed.event * requests + deployed.tick * ticks)
    reads = deployed.reads * requests + sum(map(looks, waits)) + polls
    gigabytes = requests * deployed.image_kilobytes * 1000 / _GB
    return {
        "SageMaker": outcome.replica_hours * instance.per_hour,
        "Lambda": busy * aws.lambda_gb_second + (2 * requests + polls + ticks) * aws.lambda_million_requests / _MILLION,
        "API Gateway": (requests + polls) * aws.gateway_million_requests / _MILLION,
        "DynamoDB": (deployed.writes * requests * aws.dynamodb_million_writes + reads * aws.dynamodb_million_reads)
        / _MILLION,
        "S3": requests * deployed.s3_writes * aws.s3_thousand_writes / 1000
        + requests * deployed.s3_reads * aws.s3_thousand_reads / 1000
        + gigabytes * aws.s3_gb_month * deployed.image_days / _MONTH_DAYS,
        "SNS": requests * aws.sns_million_messages / _MILLION,
        "images sent out": gigabytes * aws.gb_out,
    }

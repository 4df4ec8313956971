"""`python -m local plan POLICY`: the timeline, and what it would come to on a trace, before anything is applied."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, NoReturn
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import track

from darkroom.errors import DarkroomError
from darkroom.scaling.document import read_policy_file
from darkroom.scaling.executors import EXECUTORS, render
from darkroom.scaling.policy import ScalingPolicy
from darkroom.scaling.prices import SHIPPED, Price, PriceError, PriceTable, ServicePrices, read_prices
from darkroom.scaling.timeline import timeline
from local.plan.bill import BilledDeployment, bill
from local.plan.comparison import Compared, candidates, compare
from local.plan.picture import picture
from local.plan.service import ServiceTimes
from local.plan.table import bill_table, comparison_table, timeline_table
from local.plan.trace import Trace, TraceError, read_trace

_ON_AWS = BilledDeployment()
DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]


def plan(
    policy: Annotated[Path, typer.Argument(help="the policy document, YAML or JSON")],
    trace: Annotated[
        str | None, typer.Option(help="arrivals: a CSV file, or office-hours, bursty, quiet-with-spikes")
    ] = None,
    prices: Annotated[Path, typer.Option(help="the price table, JSON")] = SHIPPED,
    instance: Annotated[str | None, typer.Option(help="the price to use, by its name in the table")] = None,
    start: Annotated[datetime | None, typer.Option("--from", formats=DATES, help="in the policy's time zone")] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=DATES, help="in the policy's time zone")] = None,
    svg: Annotated[Path | None, typer.Option(help="write the picture here")] = None,
    render_for: Annotated[
        str | None, typer.Option("--render", help=f"print what {' or '.join(EXECUTORS)} would be told")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="denoising steps of a request")] = ServiceTimes.steps,
    step_seconds: Annotated[float, typer.Option(min=0, help="a step, whatever the batch")] = ServiceTimes.step,
    image_step_seconds: Annotated[
        float, typer.Option(min=0.0001, help="what each image adds to a step")
    ] = ServiceTimes.image_step,
    overhead_seconds: Annotated[
        float, typer.Option(min=0, help="encode, decode and upload of an image")
    ] = ServiceTimes.overhead,
    batch: Annotated[int, typer.Option(min=1, help="images a replica works on at once")] = ServiceTimes.batch,
    start_seconds: Annotated[float, typer.Option(min=0, help="until a new replica is ready")] = ServiceTimes.start,
    aws: Annotated[bool, typer.Option("--aws", help="price the AWS deployment too, service by service")] = False,
    image_kilobytes: Annotated[
        float, typer.Option(min=0, help="size of an image, for --aws")
    ] = _ON_AWS.image_kilobytes,
    image_days: Annotated[float, typer.Option(min=0, help="how long images are kept, for --aws")] = _ON_AWS.image_days,
) -> None:
    """Show what a scaling policy would do and cost; nothing is applied."""
    service = ServiceTimes(steps, step_seconds, image_step_seconds, overhead_seconds, batch, start_seconds)
    console = Console()
    try:
        document = read_policy_file(policy)
        arrivals = read_trace(trace) if trace else None
        line = timeline(document, *_interval(document, arrivals, start, end))
        if render_for is not None:
            typer.echo(json.dumps(render(render_for, document, line, policy.stem), indent=2))
            return
        table = read_prices(prices)
        price = table.price(instance)
        if aws:
            services = _services(table, price, trace)
    except DarkroomError as refused:
        _stop(f"{policy.name}: {refused.detail}" + (f" ({refused.field})" if refused.field else ""))
    except (TraceError, PriceError, ValueError) as refused:
        _stop(str(refused))
    except OSError:
        _stop(f"{policy} cannot be read.")
    console.print(timeline_table(line))
    compared: list[Compared] = []
    if arrivals is not None:
        seconds = arrivals.between(line.start, line.end).arrivals()
        total, running = len(candidates(document, line)), compare(document, line, seconds, service, price)
        compared = list(track(running, "Simulating", total, console=Console(stderr=True), transient=True))
        console.print(comparison_table(compared, price, table))
        if aws:
            hours = (line.end - line.start) / timedelta(hours=1)
            deployed = BilledDeployment(image_kilobytes=image_kilobytes, image_days=image_days)
            bills = [bill(one.outcome, hours, price, services, deployed) for one in compared]
            console.print(bill_table(compared, bills, table))
    if svg is not None:
        title = f"{policy.stem}" + (f" on {Path(trace).stem}" if trace else "")
        moments = compared[0].outcome.moments if compared else ()
        svg.write_text(picture(title, line, moments), encoding="utf-8")
        console.print(f"The picture is in {svg}.")


def _services(table: PriceTable, price: Price, trace: str | None) -> ServicePrices:
    """The prices that --aws needs, where it makes sense. Raises: ValueError with one sentence."""
    if trace is None:
        raise ValueError("--aws prices what requests make AWS do; give a --trace.")
    if not price.name.startswith("ml."):
        raise ValueError(f"--aws is about SageMaker, and {price.name} is none of its instances; use --instance ml....")
    if table.aws is None:
        raise ValueError("The price table has no prices of AWS's services; see `aws` in the table that is shipped.")
    return table.aws


def _interval(
    policy: ScalingPolicy, trace: Trace | None, start: datetime | None, end: datetime | None
) -> tuple[datetime, datetime]:
    """What was asked for, else what the trace covers, else a week from today's midnight in the policy's zone."""
    local = ZoneInfo(policy.timezone)
    midnight = datetime.combine(datetime.now(local).date(), time(), local)
    first = start.replace(tzinfo=local) if start else trace.start if trace else midnight
    last = end.replace(tzinfo=local) if end else trace.end if trace and trace.end > first else first + timedelta(days=7)
    if last.astimezone(UTC) <= first.astimezone(UTC):
        raise ValueError("--to must be later than --from.")
    return first, last


def run(arguments: list[str]) -> int:
    """`plan` with a command line's arguments; the exit code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(plan)
    try:
        app(args=arguments, prog_name="python -m local plan")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _stop(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(2)

"""The plan as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table

from darkroom.scaling.prices import Price, PriceTable
from darkroom.scaling.timeline import Timeline
from local.plan.comparison import Compared

MOST_ROWS = 60


def timeline_table(line: Timeline, most_rows: int = MOST_ROWS) -> Table:
    """One row for each breakpoint; the first `most_rows`, and how many more there are."""
    more = len(line.breakpoints) - most_rows
    caption = f"and {more} more breakpoints; narrow --from and --to to see them" if more > 0 else None
    table = Table(title="What will hold when", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("from", no_wrap=True)
    table.add_column("min-max", no_wrap=True)
    table.add_column("why")
    for point in line.breakpoints[:most_rows]:
        local = f"{point.local:%a %Y-%m-%d %H:%M} {point.local.tzname()}"
        table.add_row(local, f"{point.min}-{point.max}", point.why)
    return table


def bill_table(compared: Sequence[Compared], bills: Sequence[Mapping[str, float]], prices: PriceTable) -> Table:
    """What each candidate would come to on AWS, a service a row."""
    caption = (
        "Who has waited 25 seconds asks once a second from then on. Without CloudWatch, X-Ray, stored bundles, taxes, "
        "discounts and free tiers."
    )
    title = f"What AWS would ask for it, {prices.currency}"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("", no_wrap=True)
    for one in compared:
        table.add_column(one.outcome.label, justify="right", overflow="fold")
    for service in bills[0]:
        table.add_row(service, *(f"{bill[service]:,.2f}" for bill in bills))
    totals = [sum(bill.values()) for bill in bills]
    table.add_section()
    table.add_row("together", *(f"{total:,.2f}" for total in totals))
    each = [total / max(one.outcome.requests, 1) for total, one in zip(totals, compared, strict=True)]
    table.add_row("a thousand images", *(f"{1000 * money:,.2f}" for money in each))
    return table


def comparison_table(compared: Sequence[Compared], price: Price, prices: PriceTable) -> Table:
    """The candidates side by side, one a column, so that 80 characters hold every number.

    Money is at list prices of the table's date.
    """
    caption = (
        f"{price.name} at {price.per_hour:g} {prices.currency} an hour, list price of {prices.as_of}. {prices.note}"
    )
    table = Table(title="What it would come to", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("", no_wrap=True)
    for one in compared:
        table.add_column(one.outcome.label, justify="right", overflow="fold")
    rows: list[tuple[str, Callable[[Compared], str]]] = [
        ("requests", lambda one: f"{one.outcome.requests:,}"),
        ("p50, seconds", lambda one: f"{one.outcome.p50:,.1f}"),
        ("p95, seconds", lambda one: f"{one.outcome.p95:,.1f}"),
        ("p99, seconds", lambda one: f"{one.outcome.p99:,.1f}"),
        ("met no ready replica", lambda one: f"{one.outcome.cold:,}"),
        ("replicas started", lambda one: f"{one.outcome.starts:,}"),
        ("longest queue", lambda one: f"{one.outcome.deepest_queue:,}"),
        ("unfinished", lambda one: f"{one.outcome.unfinished:,}"),
        ("replica-hours", lambda one: f"{one.outcome.replica_hours:,.1f}"),
        (prices.currency, lambda one: f"{one.money:,.2f}"),
    ]
    for name, cell in rows:
        table.add_row(name, *(cell(one) for one in compared))
    return table

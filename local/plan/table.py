"""The plan as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

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
    table.add_column("from (local)", no_wrap=True)
    table.add_column("UTC", no_wrap=True)
    table.add_column("min", justify="right")
    table.add_column("max", justify="right")
    table.add_column("window", no_wrap=True)
    table.add_column("why")
    for point in line.breakpoints[:most_rows]:
        local = f"{point.local:%a %Y-%m-%d %H:%M} {point.local.tzname()}"
        utc = f"{point.at:%m-%d %H:%M}"
        table.add_row(local, utc, str(point.min), str(point.max), point.window or "-", point.why)
    return table


def comparison_table(compared: Sequence[Compared], price: Price, prices: PriceTable) -> Table:
    """The candidates side by side; money at list prices of the table's date."""
    caption = (
        f"{price.name} at {price.per_hour:g} {prices.currency} an hour, list price of {prices.as_of}. {prices.note}"
    )
    table = Table(title="What it would come to", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("", no_wrap=True)
    columns = ("requests", "p50 s", "p95 s", "p99 s", "cold", "starts", "longest queue", "unfinished")
    for name in (*columns, "replica-hours", prices.currency):
        table.add_column(name, justify="right")
    for one in compared:
        out = one.outcome
        table.add_row(
            out.label,
            f"{out.requests:,}",
            *(f"{seconds:.1f}" for seconds in (out.p50, out.p95, out.p99)),
            *(f"{number:,}" for number in (out.cold, out.starts, out.deepest_queue, out.unfinished)),
            f"{out.replica_hours:.1f}",
            f"{one.money:,.2f}",
        )
    return table

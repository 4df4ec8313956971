"""The plan as a picture: SVG, drawn by hand so that nothing heavy is needed and it stays sharp anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from darkroom.scaling.timeline import Timeline
from local.plan.simulation import Moment

WIDTH, LEFT, RIGHT = 1120, 64, 24
TOP, PANEL, GAP, BOTTOM = 64, 130, 44, 44
INK, FAINT, BAND, LINE, QUEUE, LOAD = "#1f2933", "#d9dee4", "#cfe3f7", "#0b5cad", "#b4452b", "#5b7083"
WINDOWS = ("#fde9c9", "#dff0dc", "#eadcf2", "#fadbd8", "#d6eeee")
TICK_STEPS = tuple(timedelta(hours=hours) for hours in (1, 2, 3, 6, 12, 24, 48, 168, 336, 730, 2190, 8760))


@dataclass(frozen=True)
class _Panel:
    """Maps time and value to the picture; `top` is the panel's upper edge, `most` the value there."""

    line: Timeline
    top: float
    most: float

    def x(self, at: datetime) -> float:
        share = (at - self.line.start) / (self.line.end - self.line.start)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return self.top + PANEL * (1 - min(value / self.most, 1.0))

    def steps(self, points: Iterable[tuple[datetime, float]]) -> str:
        """A path that holds each value until the next point, and the last to the end."""
        parts, first = [], True
        for at, value in points:
            x, y = self.x(at), self.y(value)
            parts.append(f"M{x:.1f} {y:.1f}" if first else f"H{x:.1f}V{y:.1f}")
            first = False
        return "".join(parts) + (f"H{self.x(self.line.end):.1f}" if parts else "")


def picture(title: str, line: Timeline, moments: Sequence[Moment] = ()) -> str:
    """The limits over time with the open windows behind them; with `moments` also replicas, queue and load."""
    panels = 3 if moments else 1
    height = TOP + panels * PANEL + (panels - 1) * GAP + BOTTOM
    most = max(max(point.max for point in line.breakpoints), 1)
    limits = _Panel(line, TOP, most * 1.08)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
        *_windows(limits),
        *_band(limits),
        *_axes(limits, "replicas", (0, most)),
    ]
    if moments:
        drawn += _replicas(limits, moments)
        drawn += _series(_Panel(line, TOP + PANEL + GAP, _most(moments, "unfinished")), moments, "unfinished", QUEUE)
        drawn += _series(_Panel(line, TOP + 2 * (PANEL + GAP), _most(moments, "arrived")), moments, "arrived", LOAD)
    drawn += _times(limits, height - BOTTOM)
    return "\n".join([*drawn, "</svg>", ""])


def _most(moments: Sequence[Moment], name: str) -> float:
    return max(1.0, *(float(getattr(moment, name)) for moment in moments)) * 1.08


def _windows(panel: _Panel) -> list[str]:
    """A tinted band while a window decides, and a legend that names the tints."""
    points = panel.line.breakpoints
    names = list(dict.fromkeys(point.window for point in points if point.window))
    tint = {name: WINDOWS[index % len(WINDOWS)] for index, name in enumerate(names)}
    drawn: list[str] = []
    for point, end in panel.line.until_next(points):
        if point.window:
            x, width = panel.x(point.at), panel.x(end) - panel.x(point.at)
            drawn.append(
                f'<rect x="{x:.1f}" y="{panel.top}" width="{width:.1f}" height="{PANEL}" fill="{tint[point.window]}">'
                f"<title>{escape(point.why)}</title></rect>"
            )
    x = float(LEFT)
    for name in names[:8]:
        drawn.append(f'<rect x="{x:.0f}" y="38" width="12" height="12" fill="{tint[name]}" stroke="{FAINT}"/>')
        drawn.append(f'<text x="{x + 17:.0f}" y="48">{escape(name)}</text>')
        x += 40 + 7 * len(name)
    return drawn


def _band(panel: _Panel) -> list[str]:
    """The room between min and max."""
    changes = panel.line.changes()
    drawn = []
    for point, end in panel.line.until_next(changes):
        x, width = panel.x(point.at), panel.x(end) - panel.x(point.at)
        top, depth = panel.y(point.max), max(panel.y(point.min) - panel.y(point.max), 1.5)
        drawn.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{depth:.1f}" fill="{BAND}" opacity="0.8">'
            f"<title>{point.min} to {point.max} from {point.local:%a %d %b %H:%M}</title></rect>"
        )
    for name in ("min", "max"):
        path = panel.steps((point.at, getattr(point, name)) for point in changes)
        drawn.append(f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1" stroke-dasharray="4 3"/>')
    return drawn


def _replicas(panel: _Panel, moments: Sequence[Moment]) -> list[str]:
    path = panel.steps(_changed((moment.at, moment.ready) for moment in moments))
    return [f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.8"><title>ready replicas</title></path>']


def _series(panel: _Panel, moments: Sequence[Moment], name: str, colour: str) -> list[str]:
    label = {"unfinished": "unfinished requests", "arrived": "requests a minute"}[name]
    path = panel.steps(_changed((moment.at, getattr(moment, name)) for moment in moments))
    return [
        *_axes(panel, label, (0, panel.most / 1.08)),
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.2"/>',
    ]


def _changed(points: Iterable[tuple[datetime, int]]) -> Iterable[tuple[datetime, float]]:
    before: int | None = None
    for at, value in points:
        if value != before:
            yield at, float(value)
        before = value


def _axes(panel: _Panel, name: str, marks: tuple[float, float]) -> list[str]:
    right = WIDTH - RIGHT
    drawn = [f'<text x="{right}" y="{panel.top - 6}" text-anchor="end">{name}</text>']
    for mark in marks:
        y = panel.y(mark)
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{FAINT}"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:.0f}</text>')
    return drawn


def _times(panel: _Panel, top: float) -> list[str]:
    """Ticks on round local hours, about ten of them."""
    line = panel.line
    step = next((one for one in TICK_STEPS if (line.end - line.start) / one <= 14), TICK_STEPS[-1])
    first = line.breakpoints[0].local
    tick = first.replace(hour=0, minute=0)
    drawn = []
    while tick < line.end:
        if tick >= line.start:
            x = panel.x(tick)
            label = f"{tick:%H:%M}" if step < timedelta(days=1) and tick.hour else f"{tick:%a %d %b}"
            drawn.append(f'<path d="M{x:.1f} {TOP}V{top + 5}" stroke="{FAINT}" stroke-width="0.6"/>')
            drawn.append(f'<text x="{x:.1f}" y="{top + 20}" text-anchor="middle">{label}</text>')
        tick += step
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{top + 36}" text-anchor="end" fill="{LOAD}">{first.tzname()}</text>')
    return drawn

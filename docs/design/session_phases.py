"""Draws the session's phases from the table that the session itself goes by: `python docs/design/session_phases.py`.

Decides where the phases stand on the picture and how the arrows bend. Refuses to know any move: those are
`terzetto.client._phases.TRANSITIONS`. A test compares the file with what this module draws.
"""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from terzetto.client._phases import TRANSITIONS, Input, Phase

PICTURE = Path(__file__).with_suffix(".svg")

_WIDTH, _HEIGHT = 980, 440
_BOX = (128, 40)
_PLACES = {
    Phase.DISCONNECTED: (90, 160),
    Phase.HANDSHAKING: (350, 160),
    Phase.RESTORING: (610, 160),
    Phase.CONNECTED: (870, 160),
    Phase.EXPIRED: (220, 295),
    Phase.AUTH_FAILED: (740, 295),
    Phase.CLOSED: (480, 385),
}
_BENDS = {
    (Phase.HANDSHAKING, Phase.DISCONNECTED): 45,
    (Phase.RESTORING, Phase.DISCONNECTED): 85,
    (Phase.CONNECTED, Phase.DISCONNECTED): 125,
    (Phase.DISCONNECTED, Phase.EXPIRED): 32,
    (Phase.EXPIRED, Phase.DISCONNECTED): 32,
    (Phase.DISCONNECTED, Phase.CLOSED): 110,
    (Phase.CONNECTED, Phase.CLOSED): -110,
}
"""How far an arrow's middle is moved to its right, in pixels; 0 for those not named."""

_Point = tuple[float, float]


def drawing() -> str:
    """The whole picture as SVG."""
    edges = [(before, event, after) for before, row in TRANSITIONS.items() for event, after in row.items()]
    # The way out is the same from everywhere: drawn first, faint and without words.
    edges.sort(key=lambda edge: edge[1] is not Input.CLOSED)
    body = [part for edge in edges for part in _edge(*edge)]
    body += [part for phase in Phase for part in _phase(phase)]
    return "\n".join([*_head(), *body, "</svg>", ""])


def _head() -> list[str]:
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    note = "faint arrows: CLOSED, the client's end"
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view} font-family="sans-serif" font-size="12">',
        "<title>Phases of a session</title>",
        *(
            f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{color}"/></marker>'
            for name, color in (("move", "#334155"), ("end", "#b6bfcc"))
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_WIDTH - 12}" y="{_HEIGHT - 12}" text-anchor="end" fill="#64748b">{note}</text>',
    ]


def _phase(phase: Phase) -> list[str]:
    x, y = _PLACES[phase]
    width, height = _BOX
    fill, line = ("#f8fafc", 1.2) if TRANSITIONS[phase] else ("#e2e8f0", 2.5)
    box = f'x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width}" height="{height}" rx="6"'
    return [
        f'<rect {box} fill="{fill}" stroke="#334155" stroke-width="{line}"/>',
        f'<text x="{x}" y="{y + 4}" text-anchor="middle" fill="#0f172a">{phase.name}</text>',
    ]


def _edge(before: Phase, event: Input, after: Phase) -> list[str]:
    start, end = _PLACES[before], _PLACES[after]
    bend = _BENDS.get((before, after), 0)
    length = math.dist(start, end)
    right = (-(end[1] - start[1]) / length, (end[0] - start[0]) / length)
    # A quadratic curve reaches half as far as its control point.
    middle = ((start[0] + end[0]) / 2 + right[0] * bend, (start[1] + end[1]) / 2 + right[1] * bend)
    control = (2 * middle[0] - (start[0] + end[0]) / 2, 2 * middle[1] - (start[1] + end[1]) / 2)
    first, last = _border(start, control), _border(end, control)
    faint = event is Input.CLOSED
    color, head = ("#b6bfcc", "end") if faint else ("#334155", "move")
    path = (
        f'<path d="M{first[0]:.1f} {first[1]:.1f}Q{control[0]:.1f} {control[1]:.1f} {last[0]:.1f} {last[1]:.1f}" '
        f'fill="none" stroke="{color}" marker-end="url(#{head})">'
        f"<title>{before.name}: {event.name} to {after.name}</title></path>"
    )
    if faint:
        return [path]
    place = f'x="{middle[0]:.1f}" y="{middle[1] - 5:.1f}" text-anchor="middle"'
    name = escape(event.name)
    return [
        path,
        f'<text {place} fill="#ffffff" stroke="#ffffff" stroke-width="5">{name}</text>',
        f'<text {place} fill="#475569">{name}</text>',
    ]


def _border(center: _Point, towards: _Point) -> _Point:
    """Where the line from a box's centre to a point leaves the box."""
    dx, dy = towards[0] - center[0], towards[1] - center[1]
    scale = min(_BOX[0] / 2 / abs(dx) if dx else math.inf, _BOX[1] / 2 / abs(dy) if dy else math.inf)
    return center[0] + dx * scale, center[1] + dy * scale


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")

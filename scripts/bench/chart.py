"""A chart of the CPU rows as SVG: each system's cost as a multiple of HAProxy's, readable on light and on dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bench.rounds import Figures

REFERENCE = "HAProxy"
COLORS = {"mail-bridge": "#2f81f7", "Dovecot": "#8b949e", "emailproxy": "#d29922"}
"""Each with a contrast of 3 and more to white and to GitHub's dark background."""
LABELS, PLOT, BAR, GAP, TOP = 210, 420, 11, 10, 56
SMALLEST, LARGEST = 0.5, 400.0
TICKS = (0.5, 1, 2, 5, 10, 100)
STYLE = """text{font:12px system-ui,sans-serif;fill:#1f2328}
.grid{stroke:#8b949e;stroke-opacity:.35}.one{stroke:#8b949e;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"""


def chart(found: Sequence[Figures]) -> str:
    """Bars on a logarithmic scale, one group for each row that was measured beside HAProxy."""
    rows = [each for each in found if each.by_system.get(REFERENCE) and each.column.unit.startswith("CPU")]
    systems = [name for name in COLORS if any(name in each.by_system for each in rows)]
    group = len(systems) * BAR + GAP
    height = TOP + len(rows) * group + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABELS + PLOT + 60} {height}" role="img" '
        f'aria-label="CPU as a multiple of HAProxy’s">',
        f"<style>{STYLE}</style>",
        *_legend(systems),
        *_grid(height),
    ]
    for number, figures in enumerate(rows):
        top = TOP + number * group
        middle = top + len(systems) * BAR / 2 + 4
        parts.append(f'<text x="{LABELS - 8}" y="{middle:.0f}" text-anchor="end">{escape(figures.column.title)}</text>')
        for place, system in enumerate(systems):
            if figures.by_system.get(system):
                times = figures.median(system) / max(figures.median(REFERENCE), 1e-9)
                parts += _bar(top + place * BAR, system, times)
    return "\n".join([*parts, "</svg>", ""])


def _at(times: float) -> float:
    span = math.log(LARGEST / SMALLEST)
    return LABELS + PLOT * math.log(min(max(times, SMALLEST), LARGEST) / SMALLEST) / span


def _bar(top: float, system: str, times: float) -> list[str]:
    width = max(1.0, _at(times) - LABELS)
    return [
        f'<rect x="{LABELS}" y="{top}" width="{width:.1f}" height="{BAR - 2}" fill="{COLORS[system]}"/>',
        f'<text x="{LABELS + width + 4:.1f}" y="{top + BAR - 2}" style="font-size:10px">{times:.3g}</text>',
    ]


def _legend(systems: Sequence[str]) -> list[str]:
    parts = [f'<text x="8" y="16">CPU as a multiple of {REFERENCE}’s; shorter is better</text>']
    for place, system in enumerate(systems):
        x = LABELS + place * 120
        parts.append(f'<rect x="{x}" y="24" width="10" height="10" fill="{COLORS[system]}"/>')
        parts.append(f'<text x="{x + 15}" y="33">{system}</text>')
    return parts


def _grid(height: int) -> list[str]:
    parts = []
    for times in TICKS:
        kind = "one" if times == 1 else "grid"
        x = _at(times)
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 12}" y2="{height - 20}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{times:g}</text>')
    return parts

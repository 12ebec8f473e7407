"""Figures to a Markdown table, to JSON, and to the part of docs/performance.md between its marks."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.rounds import Figures
from bench.rows import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
CHART = PAGE.parent / "images" / "performance.svg"
BEGIN, END = "<!-- figures: made by scripts/bench.py --write -->\n", "<!-- end of figures -->"


def table(found: Sequence[Figures], systems: Sequence[str]) -> str:
    """One line for each column of each row: median, and smallest and largest of the rounds."""
    lines = [
        "| what | unit | " + " | ".join(systems) + " | goal | reached |",
        "|---|---|" + "---:|" * len(systems) + "---|---|",
    ]
    for figures in found:
        cells = [_cell(figures.by_system.get(system, [])) for system in systems]
        goals, reached = _goals(figures)
        lines.append(f"| {figures.column.title} | {figures.column.unit} | {' | '.join(cells)} | {goals} | {reached} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return _short(values[0])
    middle = (
        sorted(values)[len(values) // 2] if len(values) % 2 else sum(sorted(values)[len(values) // 2 - 1 :][:2]) / 2
    )
    return f"{_short(middle)} ({_short(min(values))}–{_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _goals(figures: Figures) -> tuple[str, str]:
    goals, reached = [], []
    for goal in figures.column.goals:
        goals.append(str(goal))
        is_reached = figures.is_reached(goal)
        if is_reached is None:
            reached.append("–")
            continue
        ratio = figures.ratio(goal.beside) if goal.beside else None
        reached.append(("yes" if is_reached else "**no**") + (f" ({ratio:.2f} x)" if ratio is not None else ""))
    return ", ".join(goals), ", ".join(reached)


def as_json(found: Sequence[Figures]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "row": figures.row,
            "title": figures.column.title,
            "unit": figures.column.unit,
            "figures": figures.by_system,
            "goals": [
                {"most": goal.most, "beside": goal.beside, "reached": figures.is_reached(goal)}
                for goal in figures.column.goals
            ],
        }
        for figures in found
    ]


def from_json(rows: Sequence[Row], text: str) -> list[Figures]:
    """What as_json() gave; a column that is no longer known is left out."""
    columns = {(row.key, column.title): column for row in rows for column in row.columns}
    return [
        Figures(each["row"], columns[each["row"], each["title"]], each["figures"])
        for each in json.loads(text)
        if (each["row"], each["title"]) in columns
    ]


def surroundings(python: str, versions: Sequence[str]) -> str:
    """What the figures were measured on."""
    kernel = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{_processor()}, {os.cpu_count()} cores, {kernel}, {python}; {', '.join(versions)}."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_page(text: str, chart: str) -> None:
    """Put the figures between the page's marks, and the chart beside it."""
    page = PAGE.read_text("utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE.name} has lost the marks of its figures")
    PAGE.write_text(before + BEGIN + text + END + after, "utf-8")
    CHART.write_text(chart, "utf-8")

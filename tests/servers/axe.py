"""The question that tests put to axe-core about a page."""

from __future__ import annotations

from typing import Final

SERIOUS: Final = """async () => (await axe.run(document)).violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .map(found => `${found.id}: ${found.nodes.map(node => node.html).join(" ")}`)"""
"""Evaluate it after packages.axe_core(): it lists what a person with a screen reader would stumble over."""

"""What axe-core is asked about a page."""

from __future__ import annotations

from typing import Final

SERIOUS: Final = """async () => (await axe.run(document)).violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .map(found => `${found.id}: ${found.nodes.map(node => node.html).join(" ")}`)"""
"""To be evaluated once packages.axe_core() has been: whatever a reader with a screen reader would stumble over."""

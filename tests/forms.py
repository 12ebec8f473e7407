"""What a browser sends back with a form of the console."""

from __future__ import annotations

import re


def form_of(page: str) -> str:
    """The hidden field by which the console knows its own form again."""
    found = re.search(r'name="form" value="([0-9a-f]{64})"', page)
    assert found is not None, page
    return found[1]

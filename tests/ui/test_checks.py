"""Each subject of a check has a name in the reader's language."""

from __future__ import annotations

import re
from pathlib import Path

from bridge import doctor
from bridge.ui import checks

CALL = re.compile(r'\b(?:ok|failed|skipped)\(\s*"([a-z -]+)"')


def test_every_check_of_the_doctor_has_its_name() -> None:
    files = Path(doctor.__path__[0]).glob("*.py")
    used = {name for file in files for name in CALL.findall(file.read_text(encoding="utf-8"))}
    assert {"certificate", "os user", "token", "port"} <= used
    assert used <= set(checks.NAMES)

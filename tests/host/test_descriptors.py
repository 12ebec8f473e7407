"""The limit on open files, raised by the program itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")

CODE = """
from bridge.host.descriptors import descriptor_limit, raise_descriptor_limit
before = descriptor_limit()
raise_descriptor_limit()
print(before, descriptor_limit())
"""


def test_the_soft_limit_goes_up_to_the_hard_one() -> None:
    limited = ["sh", "-c", 'ulimit -Sn 300; ulimit -Hn 700; exec "$@"', "sh", sys.executable, "-c", CODE]
    done = subprocess.run(limited, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["300", "700"]

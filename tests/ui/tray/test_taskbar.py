"""Orders that still wait for a taskbar that does not answer when the icon goes. With a real window: a_taskbar.py."""

from __future__ import annotations

from types import SimpleNamespace

from bridge.ui.tray.taskbar import Taskbar


def test_what_was_still_to_be_told_holds_nobody_up_who_quits() -> None:
    """Each order may take four seconds, or eight, and the process ends only when the thread that sends them does."""
    taskbar, told = Taskbar(SimpleNamespace()), list[str]()
    taskbar.tell(lambda: told.append("hangs"))
    taskbar.tell(taskbar.leave)
    taskbar.tell(lambda: told.append("waits"))
    taskbar.listen(lambda: told.append("appears"), lambda: None)
    assert told == ["appears", "hangs"]

"""Run by test_icon.py: our icon and pystray's macOS code, with a fake AppKit that only records which thread calls it.

Prints, as JSON, which calls came from another thread than the main one, the application's activation policy, and the
last values that were set on the icon.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from bridge.ui.tray import icon
from bridge.ui.tray.view import Entry, Picture, Quit, View

CALLS: dict[str, tuple[Any, ...]] = {}
"""The arguments of the last call of each method, by its name."""
ASTRAY: list[str] = []
"""Calls from another thread than the main one, for which AppKit would end the process."""


class Thing:
    """Any object of AppKit: accepts every call, and returns itself."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self._called(name, arguments)

    def __call__(self, *arguments: Any) -> Any:
        return self._called("()", arguments)

    def _called(self, name: str, arguments: tuple[Any, ...]) -> Any:
        CALLS[name] = arguments
        if threading.current_thread() is not threading.main_thread():
            ASTRAY.append(name)
        return 22 if name == "thickness" else self


class Application(Thing):
    """The application: its loop runs the calls that were queued for the main thread."""

    def __init__(self) -> None:
        self.left: queue.Queue[Callable[[], object] | None] = queue.Queue()

    def run(self) -> None:
        while (call := self.left.get()) is not None:
            call()

    def stop_(self, sender: object) -> None:
        self._called("stop_", (sender,))
        self.left.put(None)


class Delegate:
    """As much of NSObject as pystray's class needs."""

    @classmethod
    def alloc(cls) -> Delegate:
        return cls()

    def init(self) -> Delegate:
        return self


def module(name: str, **content: object) -> None:
    made = ModuleType(name)
    made.__dict__.update(content)
    made.__getattr__ = lambda name: Thing()  # type: ignore[method-assign]  # for every class and constant
    sys.modules[name] = made


def main() -> None:
    application = Application()
    module("AppKit", NSApplication=SimpleNamespace(sharedApplication=lambda: application))
    module("Foundation", NSObject=Delegate, NSData=bytes)
    module("objc", namedSelector=lambda selector: lambda function: function)
    module("PyObjCTools", __path__=[])
    module("PyObjCTools.MachSignals")
    module("PyObjCTools.AppHelper", callAfter=application.left.put)
    sys.platform = "darwin"
    os.environ["PYSTRAY_BACKEND"] = "darwin"
    shown = icon.Icon()
    shown.show(View(Picture.ABSENT, "nobody", (Entry("quit", Quit()),)))

    def ready() -> None:
        shown.show(View(Picture.READY, "somebody", (Entry("quit", Quit()),)))
        shown.stop()

    shown.run(lambda action: None, ready, lambda: None)
    print(json.dumps({"astray": ASTRAY, **{name: CALLS.get(name) for name in NAMES}}))


NAMES = ("setHidden_", "setToolTip_", "setActivationPolicy_")

if __name__ == "__main__":
    main()

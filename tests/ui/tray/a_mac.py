"""Run by test_icon.py: our icon and pystray's own code for macOS, over an AppKit that only notes which thread calls it.

Prints, as JSON, what was called in another thread than the main one, the application's policy, and what the icon was
told last.
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

from bridge.ui.i18n import say, say_number
from bridge.ui.tray import icon
from bridge.ui.tray.view import Entry, Picture, Quit, View
from bridge.ui.tray.words import Words

CALLS: dict[str, tuple[Any, ...]] = {}
"""The last arguments of each, by its name."""
ASTRAY: list[str] = []
"""What AppKit would end the process for."""


class Thing:
    """Takes every call and answers with itself."""

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
    """Its loop: what was left for the main thread, one after the other."""

    def __init__(self) -> None:
        self.left: queue.Queue[Callable[[], object] | None] = queue.Queue()

    def run(self) -> None:
        while (call := self.left.get()) is not None:
            call()

    def stop_(self, sender: object) -> None:
        self._called("stop_", (sender,))
        self.left.put(None)


class Delegate:
    """NSObject, as far as pystray's class needs it."""

    @classmethod
    def alloc(cls) -> Delegate:
        return cls()

    def init(self) -> Delegate:
        return self


def module(name: str, **content: object) -> None:
    made = ModuleType(name)
    made.__dict__.update(content)
    made.__getattr__ = lambda name: Thing()  # type: ignore[method-assign]  # every class and constant
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
    shown = icon.Icon(Words(say, say_number))
    shown.show(View(Picture.ABSENT, "nobody", (Entry("quit", Quit()),)))

    def ready() -> None:
        shown.show(View(Picture.READY, "somebody", (Entry("quit", Quit()),)))
        shown.stop()

    shown.run(lambda action: None, ready, lambda: None)
    print(json.dumps({"astray": ASTRAY, **{name: CALLS.get(name) for name in NAMES}}))


NAMES = ("setHidden_", "setToolTip_", "setActivationPolicy_")

if __name__ == "__main__":
    main()

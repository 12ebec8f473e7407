"""`python -m bridge` and the command `mail-bridge`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    if len(sys.argv) == 3 and sys.argv[1] == "worker":
        from bridge.ui.cli.worker import run_worker

        return run_worker(sys.argv[2])
    if sys.platform == "win32":
        from bridge.host.console_window import show_colours
        from bridge.host.environment import look_in_path_alone
        from bridge.trust import take_windows_certificates_one_by_one

        show_colours()
        look_in_path_alone()
        take_windows_certificates_one_by_one()
    from bridge.ui.cli.main import run_command_line

    return run_command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

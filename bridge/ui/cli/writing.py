"""A configuration and the secrets that it names, onto the disk: for their owner alone, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bridge.errors import BridgeError
from bridge.host.files import write_private
from bridge.host.paths import PRIVATE_DIRECTORY, ensure_private


def write_configuration(files: Mapping[Path, str], *, overwrite: bool) -> None:
    """Write each file; the last is the configuration, which so never names a file that is not there yet.

    What stops half-way, by an error or by Ctrl-C, takes away what it has made. Raises: BridgeError.
    """
    path = output = list(files)[-1]
    made: list[Path] = []
    is_whole = False
    try:
        output.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        for path, text in files.items():
            if path != output:
                ensure_private(path.parent, directory=True)
            if not path.exists():
                made.append(path)
            write_private(path, text, overwrite=overwrite)
        is_whole = True
    except OSError as error:
        if isinstance(error, FileExistsError):
            made = [one for one in made if one != path]  # this one is somebody else's, since a moment ago
        problem = BridgeError(f"{path} cannot be written: {error.strerror or type(error).__name__}")
    finally:
        if not is_whole:
            for path in made:
                path.unlink(missing_ok=True)
    if not is_whole:
        raise problem

"""The tray's pictures: `python3 scripts/icons.py [--check]`, from the SVG files in bridge/ui/tray/pictures.

Writes each at every size that a panel, a taskbar or a menu bar asks for (16 to 64, and twice that), with rsvg-convert
(Debian: librsvg2-bin). Each PNG holds the digest of the SVG it was made from; --check, and a test, compare them.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from environment import ROOT
from options import chosen

PICTURES = ROOT / "bridge" / "ui" / "tray" / "pictures"
SIZES = (16, 20, 24, 32, 40, 48, 64, 96, 128)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEYWORD = b"Source"


def main() -> int:
    if chosen("--check"):
        problems = list(outdated())
        print("\n".join(problems) or "all pictures are up to date")
        return int(bool(problems))
    converter = shutil.which("rsvg-convert")
    if converter is None:
        sys.exit("rsvg-convert is missing; on Debian: apt install librsvg2-bin")
    for svg in sorted(PICTURES.glob("*.svg")):
        for size in SIZES:
            made = subprocess.run(
                [converter, "--width", str(size), "--height", str(size), svg], stdout=subprocess.PIPE, check=True
            )
            picture(svg, size).write_bytes(signed(made.stdout, digest(svg)))
    return 0


def outdated() -> Iterator[str]:
    """A sentence for each picture that is missing or was made from another drawing."""
    for svg in sorted(PICTURES.glob("*.svg")):
        for size in SIZES:
            path = picture(svg, size)
            if not path.exists() or digest(svg) not in path.read_bytes():
                yield f"{path.relative_to(ROOT)} is not made from {svg.name}: run python3 scripts/icons.py"


def picture(svg: Path, size: int) -> Path:
    return svg.with_name(f"{svg.stem}-{size}.png")


def digest(svg: Path) -> bytes:
    text = svg.read_text(encoding="utf-8")  # line ends as Python reads them: a checkout on Windows may change them
    return hashlib.sha256(text.encode()).hexdigest().encode()


def signed(png: bytes, source: bytes) -> bytes:
    """The image with a text chunk after its header (PNG specification, section 11.3.3.2: tEXt)."""
    header_end = len(SIGNATURE) + 25  # IHDR is always first: length, name, 13 octets, checksum
    body = b"tEXt" + KEYWORD + b"\0" + source
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:header_end] + chunk + png[header_end:]


if __name__ == "__main__":
    sys.exit(main())

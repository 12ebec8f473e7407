"""Forms with a file in them (RFC 7578): read in memory, bounded; aiohttp's own way writes them to temporary files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import BodyPartReader, web
from aiohttp.http import HttpProcessingError

PARTS = 20
"""Fields of a form."""
SECONDS = 60.0
"""For all of it to arrive, from a browser on this machine."""


@dataclass(slots=True)
class Upload:
    """A form that was sent."""

    fields: dict[str, str] = field(default_factory=dict)
    file_name: str = ""
    content: bytes = b""
    is_too_large: bool = False


async def read_upload(request: web.Request, limit: int) -> Upload | None:
    """A form of which one field may be a file; `limit`, bytes of the whole form. None if it is broken or too slow."""
    if request.content_type != "multipart/form-data":
        return None
    try:
        async with asyncio.timeout(SECONDS):
            return await _read(request, limit)
    except (TimeoutError, ValueError, AssertionError, RuntimeError, HttpProcessingError):  # aiohttp's, for a broken one
        return None  # not chained: some of these errors quote the form


async def _read(request: web.Request, limit: int) -> Upload | None:
    upload = Upload()
    reader = await request.multipart()
    left = limit
    for _ in range(PARTS):
        part = await reader.next()
        if part is None:
            return upload
        if not isinstance(part, BodyPartReader) or part.name is None:
            return None
        content = await _bounded(part, left)
        if content is None:
            upload.is_too_large = True
            return upload
        left -= len(content)
        if part.filename is None:
            upload.fields[part.name] = content.decode("utf-8", "replace")
        elif part.filename:
            upload.file_name, upload.content = part.filename[:200], content
    return None


async def _bounded(part: BodyPartReader, limit: int) -> bytes | None:
    """The content; None if it is larger, and then the rest is left unread."""
    content = bytearray()
    while chunk := await part.read_chunk():
        content += chunk
        if len(content) > limit:
            return None
    return bytes(content)

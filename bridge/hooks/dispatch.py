"""Delivers notices to scripts: from a bounded queue, a few at a time, each within its time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from bridge.advice.said import Translate
from bridge.clock import Clock
from bridge.config.schema import NotifyConfig
from bridge.hooks.delivery import HookFailed, RunProgram
from bridge.hooks.events import HookEvent, event_of
from bridge.notices import MailServerAnswered, Notice
from bridge.observe.logs import detail, event, trouble
from bridge.secret import Secret
from bridge.shortage import lacking
from bridge.threads import NoThread, in_thread

AT_ONCE = 4
"""Deliveries at once: if 500 people of a company must sign in, 500 programs must not start at once."""
WAITING = 2000
"""Events that wait for their turn; once there are that many, a new one is dropped and counted."""
SECONDS = 10.0
"""For each attempt."""
RETRY_AFTER = 3.0
"""Seconds before the second and last attempt, where the first could not be made or was not answered."""

REFUSED_AGAIN = 600.0
"""Seconds between two events about the same reason for which an account's logins are refused: a mail server may accept
and refuse by turns."""

_Post = Callable[[HookEvent, NotifyConfig, Secret[str], float], Awaitable[None]]


class Hooks:
    """Takes notices from the bus; run() delivers them. While it does not run, nothing is kept."""

    def __init__(
        self,
        config: Callable[[], NotifyConfig],
        run_program: RunProgram,
        clock: Clock,
        translation: Callable[[], Translate] = lambda: str,
    ) -> None:
        """`config`, and `translation` of the sentences for people, are called for each notice: a reload applies."""
        self._config = config
        self._translation = translation
        self._run_program = run_program
        self._clock = clock
        self._queue: asyncio.Queue[HookEvent] = asyncio.Queue(WAITING)
        self._is_running = False
        self._dropped = 0
        self._refused: dict[tuple[str, str], float] = {}
        """By account and reason: when it was last told, by the monotonic clock."""

    def take(self, notice: Notice) -> None:
        """For the bus; never blocks."""
        config = self._config()
        is_wanted = self._is_running and bool(config.command or config.webhook)
        found = event_of(notice, self._translation()) if is_wanted else None
        if found is None or self._is_told_already(notice):
            return
        try:
            self._queue.put_nowait(found)
        except asyncio.QueueFull:
            self._dropped += 1

    def _is_told_already(self, notice: Notice) -> bool:
        """For a notice that is an event. The bus gives no second notice while a refusal lasts, but one for each change
        of the reason."""
        if not isinstance(notice, MailServerAnswered):
            return False
        # Without the server's own words, which may differ each time.
        reason = notice.diagnosis.sentence() if notice.diagnosis is not None else notice.reason
        told, now = (notice.address, reason), self._clock.monotonic()
        if now - self._refused.get(told, float("-inf")) < REFUSED_AGAIN:
            return True
        self._refused[told] = now
        return False

    async def run(self) -> None:
        """Deliver until cancelled; a program that still runs is then killed."""
        self._is_running = True
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._work())
        finally:
            self._is_running = False

    async def _work(self) -> None:
        while True:
            found = await self._queue.get()
            if self._dropped:
                trouble("hook.dropped", count=self._dropped)
                self._dropped = 0
            await self._deliver(found)

    async def _deliver(self, found: HookEvent) -> None:
        """Deliver both ways at once; the failure of one does not stop the other."""
        config = self._config()
        async with asyncio.TaskGroup() as group:
            if config.command:
                group.create_task(self._try("command", found, partial(self._run, found, config.command)))
            if config.webhook is not None:
                group.create_task(self._try("webhook", found, partial(self._post, found, config, config.webhook)))

    async def _try(self, hook: str, found: HookEvent, attempt: Callable[[], Awaitable[None]]) -> None:
        for is_last in (False, True):
            try:
                await attempt()
            except HookFailed as problem:
                if is_last or not problem.is_worth_another_try:
                    _failed(hook, found, str(problem))
                    return
                await self._clock.pause(RETRY_AFTER)
            else:
                event("hook.done", hook=hook, event_name=found.event, account=found.account or None)
                return

    async def _run(self, found: HookEvent, command: tuple[str, ...]) -> None:
        ended = await self._run_program(command, found.environment, SECONDS)
        if ended.output:
            detail("hook.output", hook="command", text=ended.output)
        if ended.code != 0:
            raise HookFailed(f"it ended with code {ended.code}", temporary=False)

    async def _post(self, found: HookEvent, config: NotifyConfig, webhook: Secret[str]) -> None:
        post = await _loaded()
        await post(found, config, webhook, SECONDS)


async def _loaded() -> _Post:
    """Raises: HookFailed where it cannot be loaded just now."""
    try:
        return await in_thread(_post)
    except NoThread as problem:
        raise HookFailed(str(problem), temporary=True) from problem
    except (OSError, ImportError) as problem:
        if (reason := lacking(problem)) is None:
            raise
        raise HookFailed(str(reason), temporary=True) from problem


def _post() -> _Post:
    from bridge.hooks.webhook import post  # late, in a thread: aiohttp is an eighth of start and memory, and few use it

    return post


def _failed(hook: str, found: HookEvent, reason: str) -> None:
    trouble("hook.failed", hook=hook, event_name=found.event, account=found.account or None, reason=reason)

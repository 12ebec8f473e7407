"""Blocking calls in threads beside the event loop."""

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable

import pytest

from bridge import threads
from bridge.threads import NotBegun, NotDone, NoThread, Threads, in_thread
from bridge.ui.i18n import translation
from tests.silent import no_thread

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


async def test_returns_what_the_function_returns_from_another_thread() -> None:
    assert await Threads("p", limit=60, at_once=8).run(threading.get_ident) != threading.get_ident()


async def test_raises_what_the_function_raises() -> None:
    def fail() -> None:
        raise LookupError("so it is")

    with pytest.raises(LookupError, match="so it is"):
        await Threads("p", limit=60, at_once=8).run(fail)


async def test_without_a_limit_the_functions_own_comes_out_as_it_is() -> None:
    def fail() -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        await Threads("p", at_once=8).run(fail)


async def test_context_variables_go_along() -> None:
    variable.set("conn-1")
    assert await Threads("p", limit=60, at_once=8).run(variable.get) == "conn-1"


async def test_trap_16_a_call_that_takes_too_long_is_given_up_and_holds_its_place_until_it_ends() -> None:
    threads = Threads("p", limit=0.05, at_once=1)
    go = threading.Event()
    with pytest.raises(NotDone, match=r"within 0\.05 seconds") as late:
        await threads.run(go.wait)
    with pytest.raises(NotDone) as full:  # the only place is taken, because the thread still hangs
        await threads.run(lambda: None)
    assert late.value.said.told(translation("fr")) == "p\u00a0: pas de réponse en 0.05 secondes"
    assert full.value.said.told(translation("fr")) == "p\u00a0: trop de demandes attendent une réponse"
    go.set()


async def test_the_wait_for_a_place_may_have_a_limit_of_its_own() -> None:
    threads, go = Threads("p", at_once=1, wait=0.05), threading.Event()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(threads.run(go.wait))
        await asyncio.sleep(0)
        with pytest.raises(NotBegun, match="too many requests"):
            await threads.run(lambda: None)
        go.set()
    assert first.result()


@pytest.mark.parametrize("fails", [False, True])
async def test_an_answer_that_comes_with_the_end_of_its_time_is_not_lost(fails: bool) -> None:
    """An event loop that was blocked learns of the answer and of the timeout at the same moment. The answer must not be
    lost, since it may be a rotated token."""
    threads = Threads("punctual", limit=0.05, at_once=1)
    go, has_begun = threading.Event(), threading.Event()

    def work() -> str:
        has_begun.set()
        go.wait()
        if fails:
            raise LookupError("so it is")
        return "answer"

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(_outcome(threads.run(work)))
        await asyncio.sleep(0)
        has_begun.wait()
        (thread,) = [one for one in threading.enumerate() if one.name == "punctual"]
        go.set()
        thread.join()
        time.sleep(0.1)  # block the event loop beyond the limit
    assert asked.result() == ("so it is" if fails else "answer")


async def _outcome(call: Awaitable[str]) -> str:
    try:
        return await call
    except LookupError as problem:
        return str(problem)


async def test_a_cancelled_call_frees_its_place_when_it_ends_and_its_outcome_is_nobodys() -> None:
    threads, problems = Threads("p", limit=60, at_once=1), list[dict[str, object]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    go, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go.wait(60)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(threads.run(work))
        await asyncio.get_running_loop().run_in_executor(None, started.wait, 60)
        task.cancel()
    go.set()
    assert await threads.run(lambda: "next") == "next"
    assert problems == []


async def test_the_loop_goes_on_while_a_call_blocks() -> None:
    go = threading.Event()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(Threads("p", limit=60, at_once=8).run(lambda: go.wait(60)))
        group.create_task(asyncio.sleep(0)).add_done_callback(lambda _: go.set())
    assert call.result() is True


def test_a_stuck_thread_does_not_hold_the_process() -> None:
    program = (
        "import asyncio, time\n"
        "from bridge.threads import NotDone, Threads\n"
        "async def main():\n"
        "    try: await Threads('p', limit=0.01, at_once=1).run(lambda: time.sleep(3600))\n"
        "    except NotDone: print('given up')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "given up\n"


async def test_without_a_thread_work_is_not_called_then_or_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's own pool keeps work that it could not begin, and would run it together with the next work."""
    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(NoThread) as none:
            await in_thread(lambda: done.append("the first"))
    await in_thread(lambda: done.append("the second"))
    assert done == ["the second"]
    assert none.value.said.told(translation("fr")) == (
        "le système n’a plus de threads pour mail-bridge en ce moment\u00a0: «\u00a0can't start new thread\u00a0»"
    )


async def test_what_is_said_without_a_thread_is_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message appears in `status`, in `check` and in the console, where the names of our threads mean nothing."""
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(NoThread, match=r"^the system has no more threads for mail-bridge just now: "):
        await Threads("p", limit=60, at_once=8).run(lambda: None)


async def test_in_a_thread_of_the_loops_own_all_is_as_in_one_of_ours() -> None:
    def fail() -> None:
        raise LookupError("so it is")

    variable.set("conn-1")
    assert await in_thread(threading.get_ident) != threading.get_ident()
    assert await in_thread(variable.get) == "conn-1"
    with pytest.raises(LookupError, match="so it is"):
        await in_thread(fail)


OUT_OF_MEMORY = """
import asyncio, os, resource, threading
from bridge import threads

PAGE = resource.getpagesize()
NO_LIMIT = resource.RLIM_INFINITY
threads.BEGIN_SECONDS = 0.1

async def outcome(ours, statm, stack, more):
    threading.stack_size(stack)
    taken = int(os.pread(statm, 64, 0).split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (taken + stack + more, NO_LIMIT))
    try:
        return await ours.run(lambda: "done")
    except threads.NoThread as problem:
        return "no stack" if problem.__cause__ else "no memory to begin"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (NO_LIMIT, NO_LIMIT))

async def main():
    ours, statm = threads.Threads("p", at_once=1), os.open("/proc/self/statm", os.O_RDONLY)
    # Each stack is larger than the one before, which the C library keeps and would use again.
    sizes = range(64 * 1024, 96 * 1024, PAGE)
    found = [await outcome(ours, statm, size, size - sizes.start) for size in sizes]
    print(*sorted(set(found)), await ours.run(lambda: "again"), sep=", ")

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="tells the size of the address space by /proc")
def test_a_thread_that_has_no_memory_to_begin_holds_neither_the_loop_nor_its_place() -> None:
    """The limit on the address space rises by a page at a time: at first it refuses the thread its stack, of which
    Python tells, then what the new thread itself needs before it can do anything, and at last nothing."""
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "done, no memory to begin, no stack, again\n"


async def test_a_thread_that_begins_after_its_time_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller has been told that nothing was done, and tries again: a refresh token would be used twice."""
    late, called = list[threading.Thread](), list[str]()

    class Late(threads.LooseThread):
        def start(self) -> None:
            late.append(self)

    monkeypatch.setattr(threads, "LooseThread", Late)
    monkeypatch.setattr(threads, "BEGIN_SECONDS", 0.0)
    with pytest.raises(NoThread):
        await Threads("late", at_once=1).run(lambda: called.append("done"))
    (one,) = late
    monkeypatch.setattr(one, "_started", threading.Event())  # which join() looks at
    threading.Thread.start(one)
    one.join()
    assert not called


async def test_a_thread_that_the_system_refuses_gives_its_place_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(threads.LooseThread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    ours, go = Threads("few", at_once=1), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threads, "LooseThread", Refused)
        patch.setattr(threads, "BEGIN_SECONDS", 0.0)
        with pytest.raises(NoThread):
            await ours.run(go.set)
    for _ in range(3):  # turns of the loop, in which the end of BEGIN_SECONDS would be seen
        await asyncio.sleep(0)
    async with asyncio.TaskGroup() as group:
        group.create_task(ours.run(go.wait))
        await asyncio.sleep(0)
        assert ours._free.locked()
        go.set()

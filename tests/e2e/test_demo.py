"""`run --demo`: what a newcomer gets, tested with the very commands that it prints."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import COVERAGE
from tests.e2e import clients
from tests.servers.packages import needs

pytestmark = pytest.mark.servers


class Demo:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.guide = ""
        assert process.stdout is not None
        for line in process.stdout:
            self.guide += line
            if "Ctrl-C ends" in line:
                break

    def lines(self) -> list[str]:
        """The commands to try; those that span two lines are joined."""
        return re.findall(r"^ +((?:printf|curl).*)$", self.guide.replace("\\\n", ""), re.MULTILINE)

    def sign_in(self, page: str, address: str) -> None:
        """What the browser does: the page, the button, the provider's page, Accept, and back."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
        form = opener.open(page).read().decode()
        action = re.search(r'<form[^>]*action="([^"]+)"', form)
        fields = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', form))
        assert action is not None, form
        body = urllib.parse.urlencode(fields).encode()
        answer = opener.open(urllib.parse.urljoin(page, action[1].replace("&amp;", "&")), body)
        text = answer.read().decode()
        if "/authorize" not in answer.url:  # a page with a link, because a form must not redirect out of the console
            link = re.search(r'href="([^"]+/authorize[^"]+)"', text)
            assert link is not None, text
            answer = opener.open(link[1].replace("&amp;", "&"))
            text = answer.read().decode()
        fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', text))
        body = urllib.parse.urlencode({**fields, "address": address, "decision": "accept"}).encode()
        done = opener.open(urllib.parse.urljoin(answer.url, "/authorize"), body).read().decode()
        assert address in done


def environment(home: Path) -> dict[str, str]:
    here = {"PATH": clients.PATH, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    return {**COVERAGE, **here, "PYTHONUNBUFFERED": "1"}


@contextmanager
def running(home: Path, *starter: str) -> Iterator[Demo]:
    with subprocess.Popen(
        [*starter, sys.executable, "-m", "bridge", "run", "--demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(home),
    ) as process:
        try:
            yield Demo(process)
        finally:
            process.terminate()
            try:
                assert process.wait(15) == 0
            finally:
                process.kill()  # otherwise leaving the context would wait for its end without a limit


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    needs("curl")
    with running(tmp_path_factory.mktemp("home")) as demo:
        yield demo


def test_the_printed_lines_work_as_printed(demo: Demo) -> None:
    def shell(line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line], capture_output=True, text=True, timeout=30, env={"PATH": clients.PATH}
        )
        return done.stdout + done.stderr

    refused, listed, by_pop3, sent, bobs = demo.lines()
    assert "Access denied" in shell(refused) or "Login denied" in shell(refused)
    pages = re.findall(r"open (http://localhost:\d+/sign-in/alice\S+)|own sign-in at (http://\S+)", demo.guide)
    alice_page = next(a for a, _ in pages if a)
    bob_page = next(b for _, b in pages if b)
    demo.sign_in(alice_page, "alice@example.com")
    assert "LIST" in shell(refused) or "\\" in shell(refused)
    assert "Subject:" in shell(listed)
    assert "Subject:" in shell(by_pop3)
    assert shell(sent) == ""
    demo.sign_in(bob_page, "bob@example.com")
    assert "Hello Bob" in shell(bobs)
    assert shlex.split(bobs)[0] == "curl"


def test_what_it_names_for_real_mail_can_be_called_as_it_stands(demo: Demo, tmp_path: Path) -> None:
    """A newcomer who has only run the README's first command has no `mail-bridge` in PATH."""
    (command,) = re.findall(r"For real mail: (.*) init$", demo.guide, re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", f"{command} --version"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(tmp_path),
        check=False,
    )
    assert done.stdout.startswith("mail-bridge, version "), done.stderr


def test_it_ends_with_its_terminal_and_leaves_nothing(tmp_path: Path) -> None:
    """Closing the window ends the demo, and the next demo finds its ports free."""
    needs("setsid")
    temporary, errors = tmp_path / "tmp", tmp_path / "errors"
    temporary.mkdir()
    window, terminal = os.openpty()
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "bridge", "run", "--demo"],
            stdin=terminal,
            stdout=terminal,
            stderr=stderr,
            env=environment(tmp_path) | {"TMPDIR": str(temporary)},
        )
    os.close(terminal)
    try:
        said = b""
        while b"Ctrl-C ends" not in said:
            said += os.read(window, 4096)
        assert list(temporary.iterdir()) != []
    finally:
        os.close(window)
    try:
        assert process.wait(15) == 0
    finally:
        process.kill()
    assert list(temporary.iterdir()) == []
    assert errors.read_text() == ""


def test_it_ends_without_a_word_to_whoever_has_read_enough(tmp_path: Path) -> None:
    """As with `run --demo | head`: at exit, Python 3.14 tries again to write what could not be written."""
    buffered = {name: value for name, value in environment(tmp_path).items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", "run", "--demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=buffered,
    ) as process:
        try:
            Demo(process)
            assert process.stdout is not None
            process.stdout.close()
            process.terminate()
            assert process.stderr is not None
            assert process.stderr.read() == ""
            assert process.wait(15) == 0
        finally:
            process.kill()


def test_under_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    needs("nohup")
    with running(tmp_path, "nohup") as demo:
        demo.process.send_signal(signal.SIGHUP)
        page = re.search(r"http://localhost:\d+/sign-in/alice\S+", demo.guide)
        assert page is not None
        demo.sign_in(page[0], "alice@example.com")

"""README's first command, in a copy whose interpreter is a stand-in: nothing is installed, and the stand-in prints its
arguments."""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("scripts", "bridge/host"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(copy: Path, stand_in: str, **environment: str) -> tuple[int, str]:
    """Run it with this shell script as the environment's interpreter. Returns: exit code, and everything printed."""
    interpreter = copy / ".venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True, exist_ok=True)
    interpreter.write_text(f"#!/bin/sh\n{stand_in}\n")
    interpreter.chmod(0o755)
    return start(copy, **environment)


def start(copy: Path, **environment: str) -> tuple[int, str]:
    """The same with the virtual environment as it is, or none."""
    done = subprocess.run(
        [sys.executable, str(copy / "scripts" / "run.py")],
        env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


LACKS_CONFIGURATION = 'case "$1$3" in -c*) exit 1;; -minstall) exit 0;; esac; echo "$@"'
CANNOT_INSTALL = 'case "$3" in --version) exit 0;; esac; echo pip says why; exit 1'


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"LANG": "fr_CA.UTF-8"},
            ["installation de mail-bridge et de ce dont il a besoin …", "Il n’y a pas encore de"],
        ),
        ({"LANG": "de_DE.UTF-8"}, ["installing mail-bridge and what it needs …", "There is no configuration yet, so"]),
        ({"LC_ALL": "C", "LANGUAGE": "fr"}, ["installing mail-bridge and what it needs …"]),
    ],
)
def test_the_first_command_speaks_the_systems_language(
    copy: Path, environment: dict[str, str], words: list[str]
) -> None:
    code, said = run(copy, LACKS_CONFIGURATION, **environment)
    assert code == 0
    assert all(word in said for word in words), said
    assert said.endswith("python3 scripts/run.py init\n-m bridge run --demo\n")


@pytest.mark.parametrize("is_configured", [True, False])
def test_the_demo_starts_only_where_there_is_no_configuration(copy: Path, tmp_path: Path, is_configured: bool) -> None:
    """With this interpreter behind the stand-in, so that it is mail-bridge itself that looks for the configuration."""
    if is_configured:
        (tmp_path / "config.yaml").write_text("accounts: []\n")
    really = f'case "$1" in -c) exec {sys.executable} "$@";; esac; {LACKS_CONFIGURATION}'
    code, said = run(copy, really, PYTHONPATH=str(ROOT), HOME=str(tmp_path), LANG="C.UTF-8")
    last = said.splitlines()[-1]
    assert (code, last) == (0, "-m bridge run" if is_configured else "-m bridge run --demo"), said


def test_only_the_commands_own_result_goes_to_standard_output(copy: Path) -> None:
    """`python3 scripts/run.py accounts list --json > accounts.json` is the first command on some machines."""
    run(copy, LACKS_CONFIGURATION)
    (copy / ".venv" / "mail-bridge-run.stamp").unlink()
    done = subprocess.run(
        [sys.executable, str(copy / "scripts" / "run.py"), "status", "--json"],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.stdout == "-m bridge status --json\n"
    assert done.stderr == "installing mail-bridge and what it needs …\n"


def test_an_installation_that_fails_is_told_in_french_too(copy: Path) -> None:
    code, said = run(copy, CANNOT_INSTALL, LANG="fr_FR.UTF-8")
    assert code == 1
    assert said.endswith("pip says why\nl’installation a échoué ; pip a dit pourquoi, ci-dessus\n")


INSTALLS_SLOWLY = """case "$3" in
    --version) exit 0;;
    install) echo begin >>log; read -r now <"end $(wc -l <log)"; echo end >>log;;
esac"""
"""Whoever writes into `end 1`, and then into `end 3`, ends the two calls of pip."""


def test_two_first_starts_at_once_install_one_after_the_other(copy: Path) -> None:
    """Two pips in one environment leave it such that no later one can mend it."""
    run(copy, 'case "$3" in --version) exit 0;; esac; exit 1')  # so that there is an environment
    (copy / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\ncd {copy}\n{INSTALLS_SLOWLY}\n")
    ends = [copy / "end 1", copy / "end 3"]
    for end in ends:
        os.mkfifo(end)

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(copy / "scripts" / "run.py"), "status"],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with begin() as first, begin() as second:
        assert first.stdout is not None
        assert second.stdout is not None
        said = {first.stdout.readline(), second.stdout.readline()}
        for end in ends:
            end.write_text("now\n")
        assert first.wait() == second.wait() == 0
    assert said == {
        "installing mail-bridge and what it needs …\n",
        "waiting until another start of mail-bridge has installed it …\n",
    }
    assert (copy / "log").read_text() == "begin\nend\n" * 2, "the packages and mail-bridge itself, once"


@pytest.mark.parametrize("names", [("PIP_USER",), ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")])
def test_what_pip_is_told_for_other_installations_sends_nothing_elsewhere(
    copy: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """As on machines of many users, where no other place for packages is writable. pip's own `--user` is refused in an
    environment, and what is installed in another place is not found."""
    package = tmp_path / "example-1.0-py3-none-any.whl"
    with zipfile.ZipFile(package, "w") as wheel:
        wheel.writestr("example.py", "")
        wheel.writestr("example-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
        wheel.writestr("example-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("example-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    (copy / "scripts" / "locks" / "run.txt").write_text(f"{package.as_uri()} --hash=sha256:{digest}\n")
    elsewhere = {name: "1" if name == "PIP_USER" else str(tmp_path / "elsewhere") for name in names}
    said = start(copy, PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", HOME=str(tmp_path), **elsewhere)[1]
    assert [place.relative_to(tmp_path).parts[0] for place in tmp_path.rglob("example.py")] == [".venv"], said


def test_after_an_update_that_failed_the_version_before_it_gets_its_packages_back(copy: Path) -> None:
    """The disk was full, or the network gone, when pip had replaced some of them."""
    locked = copy / "scripts" / "locks" / "run.txt"
    before = locked.read_text("utf-8")
    run(copy, LACKS_CONFIGURATION)
    locked.write_text("# the next version's\n")
    assert run(copy, CANNOT_INSTALL)[0] == 1
    locked.write_text(before, "utf-8")
    assert "installing mail-bridge" in run(copy, LACKS_CONFIGURATION)[1]


@pytest.mark.parametrize("is_linked", [False, True])
def test_an_environment_that_was_moved_is_made_anew_and_one_behind_a_link_is_not(
    tmp_path: Path, copy: Path, is_linked: bool
) -> None:
    """Such as a home directory that moved from /home to /srv: installed programs name their interpreter's old path."""
    before, home = tmp_path / "before", tmp_path / "moved to"
    before.mkdir()
    for part in copy.iterdir():
        if part != before:
            part.rename(before / part.name)
    venv.create(before / ".venv", with_pip=False, system_site_packages=True)
    for link in (before / ".venv" / "bin").glob("python*"):
        link.unlink()  # otherwise the stand-in would overwrite the file that the link leads to
    assert "making a virtual" not in run(before, LACKS_CONFIGURATION)[1]
    before.rename(home)
    if is_linked:
        before.symlink_to(home)
    said = start(home, PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1")[1]
    assert ("making a virtual environment" in said) is not is_linked, said
    # docs/reference.md asks for it on Debian, because the icon's menu needs GTK, which only the system's packages have.
    assert "include-system-site-packages = true" in (home / ".venv" / "pyvenv.cfg").read_text("utf-8")


def test_an_environment_that_is_kept_elsewhere_behind_a_link_is_not_made_anew(tmp_path: Path, copy: Path) -> None:
    """It is on another disk. Python's venv makes no environment where a link is, and fails with a traceback."""
    venv.create(copy / ".venv", with_pip=False)
    for link in (copy / ".venv" / "bin").glob("python*"):
        link.unlink()  # as above
    (copy / ".venv").rename(tmp_path / "elsewhere")
    (copy / ".venv").symlink_to(tmp_path / "elsewhere")
    code, said = run(copy, LACKS_CONFIGURATION)
    assert (code, "making a virtual" in said) == (0, False), said


@pytest.mark.parametrize(
    ("system", "machine", "language", "remedy"),
    [
        ("win-arm64", "ARM64", "en", "for 64 bits (x86-64), which runs on ARM processors too; remove .venv, and start"),
        (
            "win32",
            "AMD64",
            "fr",
            "pour 64 bits (x86-64), qui fonctionne aussi sur les processeurs ARM\u00a0;",
        ),
        ("macosx-10.13-universal2", "x86_64", "en", "OPENSSL_DIR=$(brew --prefix openssl@3) python3 scripts/run.py"),
        ("macosx-10.13-x86_64", "x86_64", "fr", "puis OPENSSL_DIR=$(brew --prefix openssl@3) python3 scripts/run.py"),
        ("macosx-11.0-universal2", "arm64", "en", ""),
        ("win-amd64", "ARM64", "en", ""),
    ],
)
def test_where_a_package_is_not_built_any_more_the_way_out_is_told(
    copy: Path, tmp_path: Path, system: str, machine: str, language: str, remedy: str
) -> None:
    """cryptography no longer has wheels for Windows on ARM, 32-bit Windows and Macs with Intel processors."""
    (tmp_path / "sitecustomize.py").write_text(
        "import platform, sysconfig\n"
        f"sysconfig.get_platform, platform.machine = (lambda: {system!r}), (lambda: {machine!r})\n"
    )
    code, said = run(copy, CANNOT_INSTALL, LANG=f"{language}_XX.UTF-8", PYTHONPATH=str(tmp_path))
    assert code == 1
    behind = said.partition("pip says why\n")[2].splitlines()
    assert len(behind) == (2 if remedy else 1)
    assert remedy in behind[-1]


def test_an_update_of_the_systems_python_reaches_the_environment(copy: Path, tmp_path: Path) -> None:
    """A copy of the interpreter would go on with the faults of its day beside a library that was updated."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.base_prefix = '/usr'\n")
    start(copy, PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PYTHONPATH=str(tmp_path))
    assert not (copy / ".venv" / "bin" / "python").resolve(strict=True).is_relative_to(copy)


def test_an_environment_for_which_there_is_no_room_is_told_with_the_reason(copy: Path, tmp_path: Path) -> None:
    """pip does not fit in; the interpreter, a link, does."""
    (tmp_path / "sitecustomize.py").write_text(
        "import resource, sys; sys.base_prefix = '/usr'\nresource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
    )
    code, said = start(copy, PYTHONPATH=str(tmp_path))
    assert (code, "could be made: OSError: [Errno 27] File too large" in said.splitlines()[-1]) == (1, True), said


@pytest.mark.parametrize("what", ["pip", "interpreter"])
def test_what_was_left_half_made_or_by_an_older_python_is_made_anew(copy: Path, what: str) -> None:
    """On Debian without python3-venv the environment is left without pip; so it is after an upgrade of the system's
    Python."""
    old = copy / ".venv"
    venv.create(old, with_pip=False)
    (old / "lib" / "python3.9").mkdir()
    if what == "interpreter":
        (old / "bin" / "python").unlink()
        (old / "bin" / "python").symlink_to("/of/a/python/that/was/removed")
    code, said = start(copy, PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1")  # pip works, and finds no packages
    assert code == 1
    assert said.startswith("making a virtual environment in .venv/ …\ninstalling mail-bridge and what it needs …\n")
    assert "No matching distribution" in said
    assert not (old / "lib" / "python3.9").exists()


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "a part of Python is missing. On Debian and Ubuntu: sudo apt install {package}\n"),
        ("fr", "il manque une partie de Python. Sous Debian et Ubuntu\u00a0: sudo apt install {package}\n"),
    ],
)
def test_a_python_that_cannot_make_an_environment_leaves_none(
    copy: Path, tmp_path: Path, language: str, sentence: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['ensurepip'] = None\n")
    # PATH is empty so that there is no apt-get, with which root would have the missing part installed.
    code, said = start(copy, PATH="", LANG=f"{language}_XX.UTF-8", PYTHONPATH=str(tmp_path))
    assert code == 1
    assert said.endswith(sentence.format(package=f"python3.{sys.version_info.minor}-venv"))
    assert not (copy / ".venv").exists()


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "nothing would start at login"), ("fr", "écrivent\u00a0: rien ne se lancerait à l’ouverture")],
)
def test_the_python_of_the_microsoft_store_makes_no_environment_and_says_why(
    copy: Path, tmp_path: Path, language: str, words: str
) -> None:
    """`python` on a fresh Windows leads people to that Python. An environment that was already made with it goes on
    working."""
    base = r"C:\Program Files\WindowsApps\PythonSoftwareFoundation.Python.3.13_3.13.2544.0_x64__qbz5n2kfra8p0"
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.base_prefix = {base!r}\n")
    environment = {"LANG": f"{language}_XX.UTF-8", "PYTHONPATH": str(tmp_path)}
    code, said = start(copy, **environment)
    assert code == 1
    assert words in said
    assert not (copy / ".venv").exists()
    code, said = run(copy, LACKS_CONFIGURATION, **environment)
    assert code == 0
    assert words not in said


def test_a_terminal_without_the_characters_is_no_reason_to_end(copy: Path) -> None:
    code, said = run(copy, LACKS_CONFIGURATION, LANG="fr_FR.ISO-8859-1", PYTHONIOENCODING="iso-8859-1")
    assert (code, "Traceback" in said) == (0, False), said
    assert "-m bridge run --demo" in said


AS_ANOTHER_USER = """
import os, bridge.host.paths

if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)  # root may look everywhere
exec(os.environ["LOOK"])
"""


def test_a_services_configuration_that_a_user_may_not_look_at_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a terminal server, where the directory is closed to the users as the guide says."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    look = str(runpy.run_path(str(ROOT / "scripts" / "run.py"))["FIND_CONFIG"])
    with tempfile.TemporaryDirectory(prefix="closed-") as closed:
        os.chmod(closed, 0o700 if os.geteuid() == 0 else 0)
        environment = {"XDG_CONFIG_HOME": closed, "HOME": closed, "LOOK": look, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER], env=environment, cwd="/", capture_output=True, check=False
        )
    assert (done.returncode, done.stderr.decode()) == (1, "")

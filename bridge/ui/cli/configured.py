"""The configuration of a command: which file it is, named or found, who owns it, and what is in it."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.errors import ConfigError
from bridge.ui import i18n
from bridge.ui.cli.calling import administrators_program, own_program, with_config

if TYPE_CHECKING:  # a command that only asks a running bridge does not import it
    from bridge.config.load import LoadedConfig
    from bridge.observe.logs import Level


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that all commands take."""

    config: Path | None
    log_level: Level | None
    caller: str = ""
    """The system's id of the calling user, where the command runs as the service's user."""
    found: Path | None = None
    """The file that find_config() has found where none was named, so that a second reading uses no other file."""

    @property
    def program(self) -> str:
        """How the program of this command is called, for lines that are printed to be copied."""
        return with_config(administrators_program() if self.caller else own_program(), self.config)


def found_file(config: Path | None) -> Path | None:
    """The configuration, if one can be found just now: for purposes that every command can do without."""
    return next(filter(os.path.exists, places_of(config)), None)  # Path.exists() raises where we may not look


def places_of(config: Path | None) -> list[Path]:
    """Where it may be: the one that was named, or the usual ones."""
    from bridge.host.paths import config_candidates

    return [config] if config is not None else config_candidates()


def first_of(places: Iterable[Path]) -> Path | None:
    """The first that exists; one in a directory that is closed to us is passed over.

    Raises: ConfigError if the system cannot tell whether one exists, as while a disk or a network home is away: the
    next one would be another bridge's, and "there is none" would be wrong.
    """
    for place in places:
        try:
            place.stat()
        except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
            continue
        except OSError as problem:
            _tell_unreadable(place, problem)
        return place
    return None


def refuse_a_pipe(config: Path) -> None:
    """Refuse a pipe, as by `--config <(…)`: a second reading would find it empty. Raises: ConfigError."""
    try:
        mode = config.stat().st_mode
    except OSError:
        return  # whoever reads it reports that, as for a directory
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        sentence = said(
            "{file} is a pipe or a device; mail-bridge reads its configuration more than once, so it must be "
            "an ordinary file",
            file=config,
        )
        raise ConfigError([sentence])


def find_config(settings: Settings) -> Path:
    """The file to use. Raises: ConfigError naming the places where it was looked for."""
    from bridge.host.paths import config_candidates, may_look

    if settings.config is not None:
        _refuse_a_strangers(settings.config)
        try:
            if not settings.config.is_dir():  # the loader reports a directory
                # Otherwise `status --config tpyo.yaml` would say that no bridge is running.
                settings.config.open("rb").close()
        except (OSError, ValueError) as problem:
            _tell_unreadable(settings.config, problem)
        return settings.config
    candidates = config_candidates()
    found = settings.found or first_of(candidates)
    if found is not None:
        _refuse_a_strangers(found)
        _refuse_a_strangers_here(found)
        return found
    places = "\n  ".join(map(str, candidates))
    first = i18n.say("there is no configuration yet. Looked for:")
    remedy = i18n.say(
        "To make one, by answering a few questions: {program} init, or in the browser: {program} init --browser"
    )
    other = i18n.say(
        "If you have one elsewhere, name it with --config FILE. To look around first: {program} run --demo"
    )
    lines = [f"{first}\n  {places}", *map(_tell_closed, itertools.filterfalse(may_look, candidates))]
    lines += [sentence.format(program=own_program()) for sentence in (remedy, other)]
    raise ConfigError(("\n".join(lines),))


def _tell_closed(file: Path) -> str:
    sentence = i18n.say(
        "this user may not look into {directory}, so there may be a configuration in it. If the service of this "
        "machine has its own there, run this command as an administrator: on Linux with sudo"
    )
    return sentence.format(directory=file.parent)


def _tell_unreadable(file: Path, problem: OSError | ValueError) -> NoReturn:
    """Raises: ConfigError; where the file is there, with the system's reason as its cause."""
    if not isinstance(problem, OSError) or isinstance(problem, (FileNotFoundError, NotADirectoryError)):
        raise ConfigError([said("{file}: there is no such file", file=file)]) from None
    reason = said("this file cannot be read: {reason}", reason=system_reason(problem))
    raise ConfigError([Said("{file}: {reason}", (("file", str(file)), ("reason", reason)))]) from problem


def _refuse_a_strangers(config: Path) -> None:
    """Refuse a stranger's file as the machine's configuration, which can name programs to run. Raises: ConfigError."""
    from bridge.host.paths import CONFIG_NAME, machine_config_dir

    if config != machine_config_dir() / CONFIG_NAME:
        return
    from bridge.host.owners import ADMINISTRATORS, is_trusted  # late: 7 ms of each command's start

    if not is_trusted(config):
        told = said(
            "{file} is not used, because it or its directory belongs to a user of this machine who is neither you nor "
            "the administrators. If it is the right one all the same, run as an administrator: {command}",
            file=config,
            command=f'icacls "{config.parent}" /setowner *{ADMINISTRATORS} /T',
        )
        raise ConfigError([told])


def _refuse_a_strangers_here(config: Path, handle: int | None = None) -> None:
    """Refuse a stranger's file as a configuration that was only found, in the current directory, where everybody may be
    able to write. Args: handle, once it is open. Raises: ConfigError."""
    if not _is_of_here(config):
        return
    from bridge.host.owners import is_strangers  # late, as above

    try:
        is_theirs = is_strangers(config, handle)
    except OSError as problem:  # it was there a moment ago
        _tell_unreadable(config, problem)
    if is_theirs:
        told = said(
            "{file} was found in the current directory, but is not used, because it belongs to another user of this "
            "machine. If it is the right one all the same, name it: {command}",
            file=config,
            command=f'--config "{config}"',
        )
        raise ConfigError([told])


def _is_of_here(found: Path) -> bool:
    """True for a configuration that was not named, and is found only in the current directory."""
    from bridge.host.paths import CONFIG_NAME, config_candidates, machine_config_dir

    return found not in {config_candidates()[0], machine_config_dir() / CONFIG_NAME}


def own_config(settings: Settings) -> list[str]:
    """The option that names the same file from any directory; nothing where it is found by itself from there, too."""
    from bridge.host.paths import config_candidates

    named = settings.config
    if named is None and (found := first_of(config_candidates())) is not None and _is_of_here(found):
        named = found
    return ["--config", str(as_named(named))] if named is not None else []


def as_named(config: Path) -> Path:
    """The absolute path, with its links kept, because they may lead elsewhere tomorrow, and the running bridge follows
    them.

    Only links before a `..` are resolved now, since `..` starts from their target.
    """
    from bridge.host.paths import from_root

    whole = from_root(config).absolute()
    if ".." not in whole.parts:
        return whole
    end = len(whole.parts) - whole.parts[::-1].index("..")
    return Path(*whole.parts[:end]).resolve().joinpath(*whole.parts[end:])


def load(settings: Settings) -> LoadedConfig:
    """The configuration, checked. Raises: ConfigError with all its problems."""
    from bridge.config.load import load_config
    from bridge.host.environment import taken_environment
    from bridge.host.file_readers import file_readers
    from bridge.stores.named_secrets import read_named_secret

    path = find_config(settings)

    def refuse(handle: int) -> None:
        if settings.config is None:
            _refuse_a_strangers_here(path, handle)

    return load_config(
        path, environ=taken_environment, read_keyring=read_named_secret, refuse=refuse, readers=file_readers()
    )

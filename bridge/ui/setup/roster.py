"""Accounts from a CSV file: `address[,provider][,sign_in_as]`, as a person or a spreadsheet writes it (pure).

Source: RFC 4180. French Excel separates by semicolons and writes Windows-1252; its "CSV UTF-8" begins with a BOM.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from bridge.config.values import same_name
from bridge.ui.i18n import say
from bridge.ui.setup.answers import AccountAnswer, account_problem

LARGEST = 4 * 1024 * 1024
"""Bytes; the configuration that is made of it may have one MiB."""

MOST_PROBLEMS = 20
"""Lines that are reported: somebody who chose the wrong file does not need a thousand."""

_COLUMNS = {
    "address": "address",
    "adresse": "address",
    "email": "address",
    "e-mail": "address",
    "mail": "address",
    "courriel": "address",
    "email_address": "address",
    "email_address_[required]": "address",
    "adresse_e-mail": "address",
    "adresse_email": "address",
    "adresse_de_messagerie": "address",
    "primarysmtpaddress": "address",
    "provider": "provider",
    "fournisseur": "provider",
    "sign_in_as": "sign_in_as",
    "connexion": "sign_in_as",
}
"""Names of columns, in any case, Google's and Exchange's exports among them; without a header the order is that of the
documentation."""

_ORDER = ("address", "provider", "sign_in_as")


@dataclass(frozen=True, slots=True)
class Roster:
    """The content of the file."""

    accounts: tuple[AccountAnswer, ...]
    problems: tuple[str, ...]
    """Each with its line; if there are any, nothing of the file should be used."""
    unused: tuple[str, ...] = ()
    """Names in its header that stand for no column of ours."""


def read_roster(content: bytes, providers: Collection[str]) -> Roster:
    """The accounts of a file.

    Args: providers, the names that its second column may have; a single one is the default.
    """
    text = _decoded(content)
    if text is None:
        return Roster((), (say("line {line}: this is not a text file; save it as CSV").format(line=1),))
    accounts: list[AccountAnswer] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for line, found in _rows(text, providers):
        account = found if isinstance(found, str) else _account(found, providers)
        if isinstance(account, AccountAnswer):
            first = seen.setdefault(same_name(account.address), line)
            if first == line:
                accounts.append(account)
                continue
            account = say("{address} is already in line {first}").format(address=account.address, first=first)
        problems.append(say("line {line}: {problem}").format(line=line, problem=account))
        if len(problems) == MOST_PROBLEMS:
            break
    if not accounts and not problems:
        problems.append(say("line {line}: {problem}").format(line=1, problem=say("there is no address in this file")))
    return Roster(tuple(accounts), tuple(problems), _unused(text))


def _decoded(content: bytes) -> str | None:
    """Decoded as UTF-8, otherwise as Windows-1252, which fits every text file of a Western Windows; None if it is no
    text."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # Excel's "Unicode text"
        encodings: tuple[str, ...] = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text
    return None


def _rows(text: str, providers: Collection[str]) -> Iterator[tuple[int, Mapping[str, str] | str]]:
    """Line and cells by column, or line and what is wrong with it."""
    separator, text, skipped = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: tuple[str, ...] | None = None
    line = skipped + 1
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                header = _header(cells) if columns is None else None
                if columns is None and header is None and _is_header_of_others(cells, providers):
                    yield line, say("this line names the columns, but none of them is called address")
                    return
                columns = columns or header or _ORDER
                if header is None:
                    yield line, _named(cells, columns)
            line = skipped + reader.line_num + 1
    except csv.Error:
        yield line, say("the quotes of this line do not match")


def _separator(text: str) -> tuple[str, str, int]:
    """The most frequent separator in the first line that has any, the text to read, and how many lines were removed
    from it."""
    first, _, rest = text.partition("\n")
    if (named := first.strip()).lower().startswith("sep=") and len(named) == 5:  # Excel's own hint
        return (named[4], rest, 1) if named[4] in ";,\t" else (",", rest, 1)
    for line in text.splitlines():
        counts = {separator: line.strip().count(separator) for separator in (",", ";", "\t")}
        if any(counts.values()):
            return max(counts, key=lambda separator: counts[separator]), text, 0
    return ",", text, 0


def _header(cells: list[str]) -> tuple[str, ...] | None:
    """The columns, if this line names them; those that we do not know have no name."""
    names = tuple(_COLUMNS.get(cell.lower().replace(" ", "_"), "") for cell in cells)
    return names if "address" in names and not any("@" in cell for cell in cells) else None


def _is_header_of_others(cells: list[str], providers: Collection[str]) -> bool:
    """True for a header without our address column: otherwise each line below would be reported as a mistake."""
    has_provider = len(cells) > 1 and cells[1] in providers
    return sum(map(bool, cells)) > 1 and not has_provider and not any("@" in cell for cell in cells)


def _unused(text: str) -> tuple[str, ...]:
    separator, text, _ = _separator(text)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = next(([cell.strip() for cell in row] for row in rows if any(row)), [])
    except csv.Error:
        return ()
    columns = _header(names)
    return tuple(name for name, column in zip(names, columns, strict=True) if name and not column) if columns else ()


def _named(cells: list[str], columns: tuple[str, ...]) -> Mapping[str, str] | str:
    named = {column: cell for column, cell in zip(columns, cells, strict=False) if column}
    if "@" in named.get("provider", ""):  # as a mail program has its recipients
        sentence = say("{address} is in the place of the provider: write each mailbox on a line of its own")
        return sentence.format(address=named["provider"])
    if any(cells[len(columns) :]):
        return say("there are more cells than columns: address, provider, sign_in_as")
    return named


def _account(cells: Mapping[str, str], providers: Collection[str]) -> AccountAnswer | str:
    """The account, or what is wrong with it."""
    provider = cells.get("provider", "")
    if not provider and len(providers) > 1:
        return say("name the provider: {names}").format(names=", ".join(providers))
    provider = provider or next(iter(providers))
    if provider not in providers:
        return say("there is no provider with this name; choose from: {names}").format(names=", ".join(providers))
    account = AccountAnswer(cells.get("address", ""), provider, cells.get("sign_in_as", ""))
    return account_problem(account) or account

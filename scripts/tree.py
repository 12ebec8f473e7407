"""The tree of bridge/ from the first line of each module's docstring: `python3 scripts/tree.py [--check | --write]`.

Without an option it is printed; --write puts it between the marks in docs/architecture.md, --check compares.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from options import chosen

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- tree: made by scripts/tree.py -->\n", "<!-- end of tree -->"
COLUMN = 32


def tree() -> str:
    lines = []
    for path in sorted((ROOT / "bridge").rglob("*.py")):
        if path.name == "__init__.py" and path.parent.name != "bridge":
            continue
        name = path.relative_to(ROOT / "bridge").as_posix()
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        if docstring is None:
            sys.exit(f"bridge/{name} has no docstring: its first line says what the file is for")
        lines.append(f"{name:<{COLUMN}} {docstring.splitlines()[0]}")
    return "```\n" + "\n".join(lines) + "\n```\n"


def main() -> int:
    option = chosen("--check", "--write")
    if not option:
        print(tree(), end="")
        return 0
    page = PAGE.read_text("utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE.name} has lost the marks of its tree")
    wanted = before + BEGIN + tree() + END + after
    if wanted == page:
        return 0
    if option == "--write":
        PAGE.write_text(wanted, "utf-8")
        return 0
    print(f"the tree in {PAGE.name} is out of date; run: python3 scripts/tree.py --write")
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""What the first command says, in English or French, before anything is installed: no catalogue, no dependency."""

from __future__ import annotations

import io
import runpy
import sys
from pathlib import Path

_LANGUAGE = Path(__file__).resolve().parent.parent / "bridge" / "host" / "language.py"

INCOMPLETE = (
    "no virtual environment could be made: a part of Python is missing. "
    "On Debian and Ubuntu: sudo apt install {package}"
)
BUILT_FOR_64_BITS = (
    "Not everything that mail-bridge needs is built for this Python. Install python.org's for 64 bits (x86-64), which "
    "runs on ARM processors too; remove {directory}, and start this again with it."
)
TO_BE_COMPILED = (
    "Not everything that mail-bridge needs is built for Macs with an Intel processor any more; it can be compiled: "
    "brew install openssl@3 rust, then OPENSSL_DIR=$(brew --prefix openssl@3) python3 scripts/{script}"
)
OF_THE_STORE = (
    "The Python of the Microsoft Store keeps what its programs write away from all others: nothing would start at "
    "login, and no editor would find the configuration. Install python.org's for 64 bits (x86-64), and start this "
    "again with it."
)
FRENCH = {
    "mail-bridge needs Python {oldest} or newer; this is {this}": (
        "mail-bridge demande Python {oldest} ou plus récent ; celui-ci est {this}"
    ),
    "making a virtual environment in {directory}/ …": "création d’un environnement virtuel dans {directory}/ …",
    "no virtual environment could be made: {problem}": "l’environnement virtuel n’a pas pu être créé : {problem}",
    INCOMPLETE: (
        "l’environnement virtuel n’a pas pu être créé : il manque une partie de Python. Sous Debian et Ubuntu : "
        "sudo apt install {package}"
    ),
    "waiting until another start of mail-bridge has installed it …": (
        "attente : un autre lancement de mail-bridge est en train de l’installer …"
    ),
    "installing mail-bridge and what it needs …": "installation de mail-bridge et de ce dont il a besoin …",
    "the installation failed; pip has said why, above": "l’installation a échoué ; pip a dit pourquoi, ci-dessus",
    BUILT_FOR_64_BITS: (
        "Tout ce dont mail-bridge a besoin n’est pas fourni pour ce Python. Installez celui de python.org pour 64 bits "
        "(x86-64), qui fonctionne aussi sur les processeurs ARM ; supprimez {directory}, et recommencez avec lui."
    ),
    OF_THE_STORE: (
        "Le Python du Microsoft Store tient à l’écart de tous les autres programmes ce que les siens écrivent : rien "
        "ne se lancerait à l’ouverture de session, et aucun éditeur ne trouverait la configuration. Installez celui "
        "de python.org pour 64 bits (x86-64), et recommencez avec lui."
    ),
    TO_BE_COMPILED: (
        "Tout ce dont mail-bridge a besoin n’est plus fourni pour les Mac à processeur Intel, mais peut être compilé : "
        "brew install openssl@3 rust, puis OPENSSL_DIR=$(brew --prefix openssl@3) python3 scripts/{script}"
    ),
    "There is no configuration yet, so this is the demo. For real mail: {command}": (
        "Il n’y a pas encore de configuration : voici donc la démonstration. Pour le vrai courrier : {command}"
    ),
}


def say(english: str, **values: object) -> str:
    """The sentence in the language of the system."""
    # The program's own way to find out, which needs nothing but Python either.
    wishes = str(runpy.run_path(str(_LANGUAGE))["system_language"]())
    return (FRENCH[english] if wishes.lower().startswith("fr") else english).format(**values)


def tell(english: str, **values: object) -> None:
    """Print it to standard error, since the command that follows may write JSON to standard output.

    Characters that the locale's encoding lacks become question marks; Python would write \\u2026.
    """
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="replace")
    print(say(english, **values), file=sys.stderr, flush=True)

"""Checks that what is installed here is the lower bound of each dependency.

setup.cfg says what the lower bounds are and tox.ini what its ``lowest`` environment installs;
this keeps the two from drifting apart.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version


def bounds() -> Iterator[tuple[str, Version]]:
    """Each dependency that the package declares, with its lower bound."""
    for line in metadata.requires("wse-sync") or ():
        requirement = Requirement(line)
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                yield requirement.name, Version(specifier.version)


def main() -> int:
    differ = 0
    for name, bound in bounds():
        installed = Version(metadata.version(name))
        differ += installed != bound
        print(f"{name}: declared >={bound}, installed {installed}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())

"""The optional packages, as `pyproject.toml` lists them by extra."""

from __future__ import annotations

import re
from importlib.metadata import requires
from importlib.util import find_spec

from stem_core.errors import SettingsError, missing_extra

__all__ = ["absent_packages", "packages_of", "require_packages"]

_MODULES = {"pyyaml": "yaml"}  # where a module has another name than its package


def packages_of(extra: str) -> tuple[str, ...]:
    """Return the names of the packages that an extra of this program adds."""
    marked = (line.partition(";") for line in requires("stem-in-a-browser") or ())
    return tuple(
        found.group().lower()
        for package, _, marker in marked
        if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", marker)
        and (found := re.match(r"[\w.-]+", package))
    )


def absent_packages(extra: str) -> list[str]:
    """Return which packages of an extra cannot be imported here."""
    return [name for name in packages_of(extra) if find_spec(_MODULES.get(name, name)) is None]


def require_packages(purpose: str, extra: str, *, without: tuple[str, ...] = ()) -> None:
    """Refuse to go on where packages of an extra are absent.

    Parameters
    ----------
    purpose
        What needs them, as the subject of a sentence.
    extra
        Name of the extra.
    without
        Packages of the extra that this purpose can do without.

    Raises
    ------
    SettingsError
        Packages are absent.
    """
    absent = [name for name in absent_packages(extra) if name not in without]
    if absent:
        raise SettingsError(missing_extra(purpose, " and ".join(absent), extra))

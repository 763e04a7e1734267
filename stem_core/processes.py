"""Start other Python processes of this program, wherever the user stands.

Python puts the working directory first on the import path of `python -m …`: a user's `app.py` or
`zoo/` there would be run in place of ours. `-P` (Python 3.11) leaves it out.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

__all__ = ["child_environment", "module_command"]

_ROOT = Path(__file__).resolve().parents[1]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our modules in a new process.

    Parameters
    ----------
    module
        Full name, such as `app.jobs.worker`. Start it with `child_environment()`.
    *arguments
        Arguments of the module.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(**changes: str) -> dict[str, str]:
    """Return an environment in which a child process imports the same packages as this one.

    Parameters
    ----------
    **changes
        Variables to add or replace.
    """
    search = os.environ.get("PYTHONPATH", "")
    installed = {Path(folder).resolve() for folder in (*site.getsitepackages(), _user_packages())}
    if _ROOT not in installed:  # a checkout: first, so that nothing of the same name wins
        search = os.pathsep.join(filter(None, (str(_ROOT), search)))
    return {**os.environ, **({"PYTHONPATH": search} if search else {}), **changes}


def _user_packages() -> str:
    return site.getusersitepackages() if site.ENABLE_USER_SITE else str(_ROOT / "none")

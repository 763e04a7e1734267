"""Where the zoo keeps what is not part of the program: `STEM_HOME`, or the user's cache folder.

    <home>/
      models/<name>/          model folders put there by hand (or by `stem zoo convert`)
      zoo/                    installed models and encoders, see `zoo.store`
      zoo/partial/            interrupted downloads, to be continued
      zoo/locks/              one pull of a thing at a time

Nothing is made at import.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir

from stem_core.errors import OutputError

__all__ = ["PRIVATE_MODE", "home", "local_models_dirs", "private_dir", "zoo_dir"]

PRIVATE_MODE = 0o700


def home() -> Path:
    """Return the program's folder (not made here): `STEM_HOME`, else the user's cache folder."""
    chosen = os.environ.get("STEM_HOME", "").strip()
    return (
        Path(chosen).expanduser().absolute()
        if chosen
        else Path(user_cache_dir("stem-in-a-browser"))
    )


def private_dir(path: Path) -> Path:
    """Make a folder that only its owner can read, and return it.

    Raises
    ------
    OutputError
        The folder cannot be made or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_MODE)
        path.mkdir(exist_ok=True, mode=PRIVATE_MODE)
        if path.stat().st_mode & 0o077:
            path.chmod(PRIVATE_MODE)
    except OSError as error:
        msg = (
            f"The folder {path} cannot be made or made private ({error.strerror or error}); "
            "free space, correct its permissions, or set STEM_HOME to a folder of yours."
        )
        raise OutputError(msg) from error
    if not os.access(path, os.W_OK | os.X_OK):
        msg = (
            f"The folder {path} cannot be written; correct its permissions or set STEM_HOME to a "
            "folder that can be written."
        )
        raise OutputError(msg)
    return path


def zoo_dir(name: str) -> Path:
    """Return one of the zoo's folders (`blobs`, `partial`, …); made if missing."""
    return private_dir(private_dir(home() / "zoo") / name)


def local_models_dirs() -> list[Path]:
    """Return the folders that hold model folders put there by hand; they need not exist."""
    extra = os.environ.get("STEM_MODELS_DIR", "").strip()
    own = home() / "models"
    return [Path(extra).expanduser().absolute(), own] if extra else [own]

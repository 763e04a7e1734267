"""Take a Space Ranger section out of a zip archive that somebody else made.

Nothing of the archive but the contents of a few files is used: their names never become paths,
links are refused, sizes are bounded before and while they are read, and nothing is executed.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from stem_core.errors import EvaluationError
from stem_core.slides.counts_files import MATRIX_NAME

__all__ = ["unpack_space_ranger"]

_POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv")
_WANTED_BYTES = {
    MATRIX_NAME: 4_000_000_000,
    **dict.fromkeys(_POSITIONS, 300_000_000),
    "scalefactors_json.json": 1_000_000,
    "tissue_lowres_image.png": 100_000_000,
}
_MOST_MEMBERS = 200_000
_PIECE_BYTES = 4 << 20
_EXPECTED = f"zip Space Ranger's outs folder, or {MATRIX_NAME} and spatial/{_POSITIONS[0]}"


def unpack_space_ranger(archive: Path, folder: Path, source: str) -> None:
    """Write what is needed of an archive into a folder, under names of our own: matrix, positions.

    The small picture and its scale are taken along where they are there.

    Parameters
    ----------
    archive
        A zip of an `outs` folder, or of the needed files, at any depth.
    folder
        An empty folder.
    source
        What errors call the archive.

    Raises
    ------
    EvaluationError
        No zip, or damaged, locked by a password or with links; a needed file is missing, there
        twice (two sections) or too large.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for name, member in _find(opened, source).items():
                _write(opened, member, folder / name, _WANTED_BYTES[name], source)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        msg = f"{source} is a damaged or unusual zip archive; {_EXPECTED} again."
        raise EvaluationError(msg) from error
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, EvaluationError):
            raise
        msg = f"{source} cannot be unpacked ({type(error).__name__}); {_EXPECTED} again."
        raise EvaluationError(msg) from error


def _find(archive: zipfile.ZipFile, source: str) -> dict[str, zipfile.ZipInfo]:
    """Return the wanted members by our names for them."""
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        msg = f"{source} holds {len(members):,} files, too many for one section; {_EXPECTED}."
        raise EvaluationError(msg)
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/")).name
        if name not in _WANTED_BYTES or member.is_dir():
            continue
        if stat.S_ISLNK(member.external_attr >> 16):
            msg = f"{source} holds {name} as a link to another file; {_EXPECTED} themselves."
            raise EvaluationError(msg)
        if member.flag_bits & 0x1:
            msg = f"{source} is locked by a password; {_EXPECTED} without one."
            raise EvaluationError(msg)
        if name in found:
            msg = f"{source} holds {name} more than once; {_EXPECTED} of one section."
            raise EvaluationError(msg)
        if member.file_size > _WANTED_BYTES[name]:
            raise _too_large(source, name)
        found[name] = member
    if MATRIX_NAME not in found or not any(name in found for name in _POSITIONS):
        missing = MATRIX_NAME if MATRIX_NAME not in found else _POSITIONS[0]
        msg = f"{source} holds no {missing}; {_EXPECTED}."
        raise EvaluationError(msg)
    return found


def _write(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, most_bytes: int, source: str
) -> None:
    left = most_bytes  # what the archive says of a member's size need not be true
    with archive.open(member) as packed, path.open("wb") as out:
        while piece := packed.read(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise _too_large(source, path.name)
            out.write(piece)


def _too_large(source: str, name: str) -> EvaluationError:
    return EvaluationError(
        f"{source} holds a {name} of more than {_WANTED_BYTES[name] / 1e9:g} GB, too large for one "
        "section; give it as h5ad."
    )

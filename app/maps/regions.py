"""The named regions of a run, kept with it as GeoJSON: every page and browser shows the same."""

from __future__ import annotations

import math
from pathlib import Path

from app.jobs.folder import find_folder
from app.maps.runs import finished_folder
from stem_core.analysis.region_files import MAX_REGIONS, read_regions, write_regions
from stem_core.analysis.regions import Region
from stem_core.errors import OutputError, SettingsError
from stem_core.files import unwritable_as, write_atomically

__all__ = ["REGION_COLOURS", "keep_regions", "kept_regions", "next_name", "regions_file"]

REGION_COLOURS = ("#377eb8", "#e66101", "#1b9e77", "#984ea3", "#e7298a", "#a6761d")
"""Told apart with colour blindness as well as six colours can be."""
_FILE = "regions.geojson"


def regions_file(job_id: str) -> Path:
    """Return where the regions of a finished run lie, if it has any.

    Raises
    ------
    JobError
        There is no such run, or it has no result.
    """
    return finished_folder(job_id).path / _FILE


def kept_regions(job_id: str) -> tuple[Region, ...]:
    """Return the regions of a finished run; none where none were kept.

    Raises
    ------
    JobError
        There is no such run, or it has no result.
    OutputError
        Their file cannot be read; it stays where it is.
    """
    path = regions_file(job_id)
    try:
        return _read(path)
    except FileNotFoundError:
        find_folder(job_id)  # was the run deleted meanwhile?
        return ()
    except (OSError, SettingsError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        msg = (
            f"The regions kept with this run cannot be shown: {reason or error} The file stays on "
            "the server, and is set aside beside the run when new regions are kept."
        )
        raise OutputError(msg) from error


def keep_regions(job_id: str, regions: tuple[Region, ...]) -> None:
    """Write the regions of a finished run down, whole or not at all.

    A file that cannot be read is not written over but set aside as `regions-unreadable-1.geojson`,
    `-2`, and so on.

    Raises
    ------
    JobError
        There is no such run, or it has no result.
    SettingsError
        More than 1,000 regions, or one without an outline.
    OutputError
        The file cannot be written.
    """
    if len(regions) > MAX_REGIONS:
        msg = (
            f"A run keeps up to {MAX_REGIONS:,} regions, and these would be {len(regions):,}; "
            "delete some, or take fewer from the file."
        )
        raise SettingsError(msg)
    path = regions_file(job_id)
    content = write_regions(regions)
    try:
        with unwritable_as(path, "Free space on the server's disk."):
            _set_unreadable_aside(path)
            if regions:
                write_atomically(path, content)
            else:
                path.unlink(missing_ok=True)
    except OutputError:
        find_folder(job_id)  # was the run deleted meanwhile?
        raise


def _read(path: Path) -> tuple[Region, ...]:
    # What the run kept is on its slide, or just beside it: the size does not matter any more.
    return read_regions(path.read_bytes(), math.inf, math.inf, source="Their file")


def _set_unreadable_aside(path: Path) -> None:
    try:
        _read(path)
    except FileNotFoundError:
        return
    except SettingsError:
        number = 1
        while (aside := path.with_name(f"regions-unreadable-{number}.geojson")).exists():
            number += 1
        path.rename(aside)


def next_name(regions: tuple[Region, ...]) -> str:
    """Return the first of "Region 1", "Region 2", … that no region has."""
    taken = {region.name for region in regions}
    number = 1
    while f"Region {number}" in taken:
        number += 1
    return f"Region {number}"

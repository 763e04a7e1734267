"""The named regions of a run, kept with it as GeoJSON: every page and browser shows the same."""

from __future__ import annotations

from app.jobs.folder import write_whole
from app.maps.runs import finished_folder
from stem_core.analysis.region_files import read_regions, write_regions
from stem_core.analysis.regions import Region
from stem_core.errors import OutputError, StemError

__all__ = ["REGION_COLOURS", "keep_regions", "kept_regions", "next_name"]

REGION_COLOURS = ("#377eb8", "#e66101", "#1b9e77", "#984ea3", "#e7298a", "#a6761d")
"""Told apart with colour blindness as well as six colours can be."""
_FILE = "regions.geojson"


def kept_regions(job_id: str, width_px: int, height_px: int) -> tuple[Region, ...]:
    """Return the regions of a finished run; none where its file cannot be read.

    Raises
    ------
    JobError
        There is no such run, or it has no result.
    """
    path = finished_folder(job_id).path / _FILE
    try:
        return read_regions(path.read_bytes(), width_px, height_px)
    except (OSError, StemError):
        return ()


def keep_regions(job_id: str, regions: tuple[Region, ...]) -> None:
    """Write the regions of a finished run down, whole or not at all.

    Raises
    ------
    JobError
        There is no such run, or it has no result.
    OutputError
        The file cannot be written.
    """
    path = finished_folder(job_id).path / _FILE
    try:
        if regions:
            write_whole(path, write_regions(regions))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"The regions cannot be kept ({error.strerror or error}); free space on the disk."
        raise OutputError(msg) from error


def next_name(regions: tuple[Region, ...]) -> str:
    """Return the first of "Region 1", "Region 2", … that no region has."""
    taken = {region.name for region in regions}
    number = 1
    while f"Region {number}" in taken:
        number += 1
    return f"Region {number}"

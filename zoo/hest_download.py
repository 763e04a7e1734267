"""Fetch measured sections of HEST-1k from the Hub: a gated dataset, so a token is needed.

Only the named sections are fetched (image, counts, metadata: about a gigabyte each), into the
layout that training reads. What was broken off goes on where it stopped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub

from stem_core.errors import OutputError, SectionError
from stem_core.training.hest import HEST_DATASET
from zoo.hub_access import retry, token, translate_hub_errors

__all__ = ["download_metadata", "download_sections"]

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def download_sections(
    ids: Sequence[str], folder: Path, *, dataset: str = HEST_DATASET, revision: str | None = None
) -> list[Path]:
    """Fetch sections into a folder in the layout of HEST-1k.

    Parameters
    ----------
    ids
        HEST ids, such as NCBI697.
    folder
        Made where it is not there; files that are whole are not fetched again.
    dataset, revision
        On the Hub; the newest revision by default.

    Returns
    -------
    list of Path
        The h5ad files of the sections, in the order of `ids`.

    Raises
    ------
    HubError
        See its kinds: no access to the gated dataset, no network, …
    SectionError
        An id is malformed, or the dataset has no such section.
    OutputError
        The folder cannot be written.
    """
    for name in ids:
        if not _ID.fullmatch(name):
            msg = f"{name!r} is not a HEST id; give one such as NCBI697."
            raise SectionError(msg)
    patterns = [
        pattern
        for name in ids
        for pattern in (f"st/{name}.h5ad", f"wsis/{name}.tif", f"metadata/{name}.json")
    ]
    _fetch(patterns, folder, dataset, revision)
    tables = [folder / "st" / f"{name}.h5ad" for name in ids]
    missing = [
        name
        for name, table in zip(ids, tables, strict=True)
        if not (table.is_file() and (folder / "wsis" / f"{name}.tif").is_file())
    ]
    if missing:
        msg = (
            f"The dataset {dataset} has no section {', '.join(missing)} (counts and image); check "
            "the ids in its metadata."
        )
        raise SectionError(msg)
    return tables


def download_metadata(
    folder: Path, *, dataset: str = HEST_DATASET, revision: str | None = None
) -> int:
    """Fetch the metadata of all sections, a few kilobytes each; return how many there are.

    Raises
    ------
    HubError, OutputError
        As `download_sections`.
    """
    _fetch(["metadata/*.json"], folder, dataset, revision)
    return len(list((folder / "metadata").glob("*.json")))


def _fetch(patterns: list[str], folder: Path, dataset: str, revision: str | None) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with translate_hub_errors(dataset, revision):
            retry(
                lambda: huggingface_hub.snapshot_download(
                    dataset,
                    repo_type="dataset",
                    revision=revision,
                    allow_patterns=patterns,
                    local_dir=folder,
                    token=token(),
                    max_workers=2,
                )
            )
    except OSError as error:
        msg = (
            f"The sections cannot be written into {folder} ({error.strerror or error}); free space "
            "or choose another folder. What came is kept."
        )
        raise OutputError(msg) from error

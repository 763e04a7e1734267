"""The files of a result, to take away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import streamlit as st

from app.jobs.folder import find_folder
from stem_core.prediction.export import zip_prediction

__all__ = ["show_downloads"]

_LARGEST_THROUGH_PAGE_BYTES = 200_000_000
_FILES = (
    ("expression.csv", "Expression (CSV)", ":material/table:", "text/csv"),
    ("uncertainty.csv", "Spread (CSV)", ":material/table:", "text/csv"),
    ("prediction.h5ad", "AnnData (h5ad)", ":material/database:", "application/x-hdf5"),
    ("run.json", "Run record (JSON)", ":material/description:", "application/json"),
)


def show_downloads(run_id: str, result_dir: Path) -> None:
    """Show a button for each file and one for everything.

    Large files do not pass through the page, which would hold them in memory, but through the
    server's route for files of a run.
    """
    total_bytes = sum(path.stat().st_size for path in result_dir.iterdir() if path.is_file())
    with st.container(horizontal=True, gap="small"):
        for name, label, icon, mime in _FILES:
            path = result_dir / name
            _button(run_id, name, label, icon, mime, path.stat().st_size, _opener(path))
        _button(
            run_id, "result.zip", "Everything (zip)", ":material/folder_zip:", "application/zip",
            total_bytes, _packer(run_id, result_dir),
        )  # fmt: skip


def _button(
    run_id: str, name: str, label: str, icon: str, mime: str, size_bytes: int,
    data: Callable[[], BinaryIO],
) -> None:  # fmt: skip
    if size_bytes > _LARGEST_THROUGH_PAGE_BYTES:
        st.link_button(label, f"/api/runs/{run_id}/{name}", icon=icon, key=f"get_{name}")
        return
    st.download_button(
        label, data, file_name=f"stem-{run_id[:8]}-{name}", mime=mime, icon=icon,
        on_click="ignore", key=f"get_{name}",
    )  # fmt: skip


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _packer(run_id: str, result_dir: Path) -> Callable[[], BinaryIO]:
    def packed() -> BinaryIO:
        archive = find_folder(run_id).archive_file
        if not archive.is_file():
            zip_prediction(result_dir, archive)
        return archive.open("rb")

    return packed

"""Publish a model folder on the Hub: checked before, with a card, and with what pins it after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stem_core.errors import ModelFileError, SettingsError
from stem_core.files import write_atomically
from stem_core.model.card import model_card
from stem_core.model.folder import check_model
from zoo import hub
from zoo.entries import FileEntry, HubSource, ModelEntry, describe_files, entry_from_manifest
from zoo.hub_access import token

__all__ = ["Published", "publish"]


@dataclass(frozen=True)
class Published:
    """What was, or would be, published; without a revision where nothing was sent."""

    files: tuple[FileEntry, ...]
    revision: str = ""
    entry: ModelEntry | None = None


def publish(folder: Path, repo: str, *, private: bool = False, dry_run: bool = False) -> Published:
    """Check a model folder, renew its card, and upload it.

    Only the files of a model folder are sent, whatever else lies in it.

    Parameters
    ----------
    folder
        The model folder.
    repo
        `ORG/NAME`; made where it does not exist.
    private
        Make it private.
    dry_run
        Check and tell, send nothing and change nothing.

    Raises
    ------
    ModelFileError
        The folder holds no sound model.
    SettingsError
        The repository's name cannot be one, or there is no token.
    OutputError
        The card cannot be written.
    HubError
        See its kinds.
    """
    if not (folder / "config.json").is_file():
        msg = f"{folder} is not a model folder: it has no config.json; name the folder of a model."
        raise ModelFileError(msg)
    manifest = check_model(folder)
    try:
        # Checked before anything is sent.
        HubSource(repo=repo, revision="unpinned")
    except ValueError as error:
        msg = f"'{repo}' cannot be a repository; give ORG/NAME."
        raise SettingsError(msg) from error
    if dry_run:
        return Published(describe_files(folder))
    if not token():
        msg = (
            "Publishing needs a token with the right to write: put it into the environment as "
            "HF_TOKEN."
        )
        raise SettingsError(msg)
    card = folder / "README.md"
    text = model_card(manifest)
    if not card.is_file() or card.read_text(encoding="utf-8") != text:
        write_atomically(card, text)
    files = describe_files(folder)
    revision = hub.upload(
        repo,
        {f.path: folder / f.path for f in files},
        private=private,
        message=f"{manifest.name} {manifest.version}",
    )
    source = HubSource(repo=repo, revision=revision, files=files)
    return Published(files, revision, entry_from_manifest(manifest, "hub", hub=source))

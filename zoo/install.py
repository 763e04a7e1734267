"""Pull, verify and remove models of the Hub; what is installed, and nothing half-done.

A model is installed when its record is written, which happens last: after every file has come, was
checked, and the model was loaded once. Killed at any moment before, nothing of it can be used, and
parts of large files stay, and the next pull continues them.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from stem_core.errors import (
    HashError,
    HubMissingError,
    HubOfflineError,
    ModelFileError,
    OutputError,
)
from stem_core.files import atomic_directory, file_sha256
from stem_core.model.manifest import UNPINNED
from zoo import hub
from zoo.entries import MODEL_FILES, FileEntry, ModelEntry, describe_files
from zoo.places import local_models_dirs, zoo_dir
from zoo.records import (
    Pin,
    PullRecord,
    faulty_files,
    forget_pull,
    installed,
    pinned,
    read_pins,
    record_pin,
    record_pull,
)

__all__ = [
    "PullProgress",
    "pull",
    "pull_size",
    "remove",
    "take_turn",
]

_LOCK_PATIENCE_S = 3600.0


@dataclass(frozen=True)
class PullProgress:
    """How far a pull is: `done_bytes` of `total_bytes` of a stage.

    Stages are `waiting` (another process pulls the same model), `listing`, `download`, `convert`
    and `check`.
    """

    stage: str
    done_bytes: int = 0
    total_bytes: int = 0


def pull_size(entry: ModelEntry) -> int:
    """Ask how many bytes a pull of a model takes, from the registry or else from the Hub.

    Raises
    ------
    HubError
        The Hub does not say.
    """
    if entry.size_bytes is not None:
        return entry.size_bytes
    assert entry.hub is not None
    listed = hub.listing(entry.hub.repo, pinned(entry))
    return sum(listed.files[path].size for path in _wanted(entry, listed))


def pull(
    entry: ModelEntry,
    *,
    update: bool = False,
    progress: Callable[[PullProgress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PullRecord:
    """Fetch, check, convert where need be, and install a model.

    Parameters
    ----------
    entry
        A Hub entry of the registry.
    update
        Take the newest revision of an unpinned entry, whatever earlier pulls recorded.
    progress
        Told of bytes; from this thread alone.
    should_stop
        Asked with every piece that comes.

    Raises
    ------
    HubError, HashError, ModelFileError, OutputError, Cancelled
        Nothing is installed then; a model that was stays.
    """
    from stem_core.model.folder import check_model

    assert entry.hub is not None, "only Hub entries are pulled"

    def report(stage: str, done: int = 0, total: int = 0) -> None:
        if progress is not None:
            progress(PullProgress(stage, done, total))

    lock = FileLock(zoo_dir("locks") / f"{entry.name}.lock")
    if not take_turn(lock, lambda: report("waiting"), should_stop):
        msg = f"Another process has been pulling {entry.name} for an hour; stop it, then try again."
        raise OutputError(msg)
    try:
        revision = None if update and entry.hub.revision == UNPINNED else pinned(entry)
        here = installed().get(entry.name)
        if here is not None and here.revision == revision:
            faulty = faulty_files(here.path, here.files)
            if not faulty:
                return here
            for path in faulty:  # or the cache would give the damaged ones again
                hub.forget(here.path / path)
        report("listing")
        listed = _list(entry, revision)
        wanted = _wanted(entry, listed)
        recorded = _recorded(entry, listed.revision, update=update)
        _agree(recorded, listed, wanted)
        files = _download(entry.name, recorded, listed, wanted, report, should_stop)
        sources: tuple[FileEntry, ...] = ()
        if entry.convert is None:
            folder = files["config.json"].parent
        else:
            report("convert")
            sources = tuple(_described(path, file) for path, file in files.items())
            folder = _convert(entry, listed.revision, files)
        report("check")
        manifest = check_model(folder)
        if manifest.name != entry.name:
            msg = (
                f"The repository {listed.repo} holds the model {manifest.name}, not {entry.name} "
                "as the registry says; correct the registry."
            )
            raise ModelFileError(msg)
        record = PullRecord(
            name=entry.name,
            folder=str(folder),
            repo=listed.repo,
            revision=listed.revision,
            files=describe_files(folder),
            sources=sources,
            pulled=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if entry.hub.revision == UNPINNED:
            found = sources or record.files
            pin = Pin(repo=listed.repo, revision=listed.revision, files=found)
            record_pin(entry.name, pin)
        record_pull(record)
        return record
    finally:
        lock.release()


def remove(name: str) -> int:
    """Remove a pulled model and return the bytes set free; what other models use stays.

    Raises
    ------
    ModelFileError
        No such model was pulled.
    """
    import huggingface_hub

    records = installed()
    if name not in records:
        forget_pull(name)
        msg = (
            f"The model {name} was not pulled, so there is nothing to remove; a model folder that "
            "was put there by hand is deleted by hand."
        )
        raise ModelFileError(msg)
    record = records.pop(name)
    forget_pull(name)  # first
    freed = 0
    if record.sources:
        freed += sum(f.size or 0 for f in record.files)
        shutil.rmtree(record.path, ignore_errors=True)
    if all(r.revision != record.revision or r.repo != record.repo for r in records.values()):
        try:
            cache = huggingface_hub.scan_cache_dir()
        except huggingface_hub.errors.CacheNotFound:
            return freed
        plan = cache.delete_revisions(record.revision)
        freed += plan.expected_freed_size
        plan.execute()
    return freed


def take_turn(lock: FileLock, waiting: Callable[[], None], should_stop: Callable[[], bool]) -> bool:
    """Wait for the lock, telling so, until it is free or patience ends."""
    from filelock import Timeout

    from stem_core.errors import Cancelled

    end = time.monotonic() + _LOCK_PATIENCE_S
    while time.monotonic() < end:
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            waiting()
            if should_stop():
                msg = "The pull was stopped."
                raise Cancelled(msg) from None
        else:
            return True
    return False


def _list(entry: ModelEntry, revision: str | None) -> hub.Listing:
    """List the repository; from the record of an earlier pull where there is no network."""
    assert entry.hub is not None
    try:
        return hub.listing(entry.hub.repo, revision)
    except HubOfflineError as error:
        known = entry.hub.files or (
            pin.files if (pin := read_pins().get(entry.name)) is not None else ()
        )
        if revision is not None and known:
            cached = {f.path: hub.cached_file(entry.hub.repo, revision, f.path) for f in known}
            if all(cached.values()):
                files = {
                    path: hub.RemoteFile(path, file.stat().st_size, None, "")
                    for path, file in cached.items()
                    if file is not None
                }
                return hub.Listing(entry.hub.repo, revision, files)
        raise HubOfflineError(_put_it_there(entry, str(error))) from error


def _put_it_there(entry: ModelEntry, why: str) -> str:
    """Say which files are needed and where they can be put by hand."""
    assert entry.hub is not None
    folder = local_models_dirs()[0] / entry.name
    names = ", ".join(entry.wanted_files)
    if entry.convert is not None:
        return (
            f"{why} The model {entry.name} needs {names} of {entry.hub.repo}: get them where there "
            f"is a network, then run stem zoo convert {entry.convert.checkpoint} --genes "
            f"{entry.convert.genes} --name {entry.name} --out {folder}."
        )
    return (
        f"{why} The model {entry.name} needs the files {names} of {entry.hub.repo} (the last three "
        f"where they are there): get them where there is a network and put them into {folder}."
    )


def _wanted(entry: ModelEntry, listed: hub.Listing) -> list[str]:
    """Return the files to fetch, checked to be there."""
    needed = entry.wanted_files if entry.convert else MODEL_FILES[:3]
    missing = [path for path in needed if path not in listed.files]
    if missing:
        msg = (
            f"The repository {listed.repo} at revision {listed.revision[:12]} does not have "
            f"{' and '.join(missing)}, so it holds no model of this kind; tell its authors."
        )
        raise HubMissingError(msg)
    return [path for path in entry.wanted_files if path in listed.files]


def _recorded(entry: ModelEntry, revision: str, *, update: bool) -> dict[str, FileEntry]:
    """Return what the registry, or the first pull, recorded of the files to fetch."""
    assert entry.hub is not None
    recorded = {f.path: f for f in entry.hub.files}
    pin = read_pins().get(entry.name)
    if entry.hub.revision != UNPINNED or pin is None or (update and pin.revision != revision):
        return recorded
    return {**{f.path: f for f in pin.files}, **recorded}


def _agree(recorded: dict[str, FileEntry], listed: hub.Listing, wanted: list[str]) -> None:
    """Compare what the Hub lists with what was recorded."""
    for path in wanted:
        known, remote = recorded.get(path), listed.files[path]
        if known is None:
            continue
        if (known.size is not None and known.size != remote.size) or (
            known.sha256 and remote.sha256 and known.sha256 != remote.sha256
        ):
            msg = (
                f"The file {path} of {listed.repo} is not the one that was recorded (size or "
                "sha256 differ); nothing was fetched. Tell its authors, or update the registry."
            )
            raise HashError(msg)


def _download(
    name: str,
    recorded: dict[str, FileEntry],
    listed: hub.Listing,
    wanted: list[str],
    report: Callable[[str, int, int], None],
    should_stop: Callable[[], bool],
) -> dict[str, Path]:
    """Fetch files one after the other, and check each against what was recorded."""
    total = sum(listed.files[path].size for path in wanted)
    free = shutil.disk_usage(zoo_dir("partial")).free
    if total > free:
        msg = (
            f"The model {name} takes {total / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are "
            "free; free space on the disk or set STEM_HOME and HF_HOME to another one."
        )
        raise OutputError(msg)
    done = 0
    counting = threading.Lock()

    def received(n: int) -> None:
        nonlocal done
        with counting:
            done += n
        report("download", done, total)

    files = {}
    for path in wanted:
        files[path] = hub.fetch(listed, path, received, should_stop)
        known = recorded[path].sha256 if path in recorded else None
        if known and file_sha256(files[path]) != known:
            hub.forget(files[path])
            msg = (
                f"The file {path} of {listed.repo} is not the one that was recorded (its sha256 "
                "differs), so nothing was installed. Pull the model again; should it happen "
                "again, tell its authors."
            )
            raise HashError(msg)
    return files


def _convert(entry: ModelEntry, revision: str, files: dict[str, Path]) -> Path:
    """Make the model folder from another program's checkpoint."""
    from zoo.convert import convert_entry

    target = zoo_dir("converted") / f"{entry.name}-{revision[:12]}"
    with atomic_directory(target, replace=True) as temporary:
        convert_entry(entry, files, temporary)
    return target


def _described(path: str, file: Path) -> FileEntry:
    return FileEntry(path=path, size=file.stat().st_size, sha256=file_sha256(file))

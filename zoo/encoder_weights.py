"""Weights of published encoders: download, check, bring into a form to load, and record.

Pickled weights (`pytorch_model.bin`) are read without running them and kept in
`<home>/zoo/encoders/` as safetensors, and so is a copy of safetensors that were brought by hand;
those that were pulled stay in the Hub's cache.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stem_core.encoders.catalogue import CATALOGUE, EncoderFacts, encoder_facts
from stem_core.errors import (
    HashError,
    HubMissingError,
    HubOfflineError,
    ModelFileError,
    OutputError,
    SettingsError,
    StemError,
)
from stem_core.files import atomic_write, file_sha256
from stem_core.model.manifest import UNPINNED
from zoo.encoder_records import InstalledEncoder, installed_encoder, record_encoder
from zoo.entries import FileEntry
from zoo.places import zoo_dir
from zoo.records import BY_HAND, Pin, read_pins, record_pin

if TYPE_CHECKING:
    from zoo.hub import Listing
    from zoo.install import PullProgress

__all__ = [
    "install_encoder_file",
    "install_weights",
    "installing",
    "published_encoder",
    "pull_encoder",
]

_SAFE = ".safetensors"


def install_encoder_file(name: str, path: Path, *, update: bool = False) -> InstalledEncoder:
    """Install an encoder from its published file, which was brought here by other means.

    The file is kept, converted or as a copy, and pinned: later files and pulls must be the same
    until `update` is asked for.

    Parameters
    ----------
    name
        As in the catalogue.
    path
        The file.
    update
        Take it, whatever was installed first.

    Raises
    ------
    SettingsError
        No such encoder, one that comes with the program, or no such file.
    EncoderMissingError
        timm is not installed, so that nothing could be checked.
    HashError, ModelFileError, OutputError
        Nothing is installed then; what was stays.
    """
    from stem_core.encoders.timm_parts import import_timm

    facts = published_encoder(name)
    import_timm()
    if not path.is_file():
        msg = f"The file {path} is not there; give the weights of {facts.repo}."
        raise SettingsError(msg)
    with installing(name):
        pin = read_pins().get(f"encoder:{name}")
        known = set() if pin is None else {file.sha256 for file in pin.files}
        if not update and pin is not None and file_sha256(path) not in known:
            msg = (
                f"The file {path.name} is not the one that was installed first for {facts.title} "
                "(its sha256 differs); give that one, or add --update to take this one instead."
            )
            raise HashError(msg)
        alike = (n for n in facts.files if n.endswith(_SAFE) == path.name.endswith(_SAFE))
        record = install_weights(facts, BY_HAND, path, next(alike, path.name), copied=True)
        if record.source.sha256 not in known:
            found = Pin(repo=facts.repo, revision=BY_HAND, files=(record.source,))
            record_pin(f"encoder:{name}", found)
    return record


def published_encoder(name: str) -> EncoderFacts:
    """Return the facts of an encoder whose weights can be pulled.

    Raises
    ------
    SettingsError
        There is none of that name, or it comes with the program.
    """
    facts = encoder_facts(name)
    if facts is None or not facts.repo:
        known = ", ".join(other.name for other in CATALOGUE.values() if other.repo)
        what = "comes with the program" if facts is not None else "is not known"
        msg = f"The encoder '{name}' {what}; those that can be pulled are {known}."
        raise SettingsError(msg)
    return facts


@contextlib.contextmanager
def installing(
    name: str,
    waiting: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Be the only one that installs an encoder; wait for that up to an hour.

    Raises
    ------
    OutputError
        Another process is at it all the time.
    Cancelled
        `should_stop` said so.
    """
    from filelock import FileLock

    from zoo.install import take_turn

    lock = FileLock(zoo_dir("locks") / f"encoder-{name}.lock")
    if not take_turn(lock, waiting, should_stop):
        msg = f"Another process has been pulling {name} for an hour; stop it, then try again."
        raise OutputError(msg)
    try:
        yield
    finally:
        lock.release()


def install_weights(
    facts: EncoderFacts,
    revision: str,
    source: Path,
    path: str,
    report: Callable[[str], None] = lambda stage: None,
    *,
    copied: bool = False,
) -> InstalledEncoder:
    """Convert or copy where need be, load once, and write the record.

    Parameters
    ----------
    facts
        Of the catalogue.
    revision
        Of the repository, or `by hand`.
    source
        The published file.
    path
        Its name in the repository.
    report
        Told of the stages `convert` and `check`.
    copied
        Whether safetensors are copied into the zoo's folder.

    Raises
    ------
    HashError, ModelFileError, OutputError
        Nothing is installed then.
    """
    from stem_core.encoders.foundation import load_published

    described = FileEntry(path=path, size=source.stat().st_size, sha256=file_sha256(source))
    sha256 = str(described.sha256)
    kept = zoo_dir("encoders") / f"{facts.name}-{sha256[:12]}{_SAFE}"
    if path.endswith(_SAFE):
        report("check")
        load_published(facts, source, sha256=sha256)
        weights = _copy(source, sha256, kept) if copied else source
        weights_sha256 = sha256
    else:
        report("convert")
        with atomic_write(kept) as temporary:
            _convert(facts, source, sha256, temporary)
        report("check")
        try:
            load_published(facts, kept, sha256=sha256)
        except StemError:
            kept.unlink()
            raise
        weights, weights_sha256 = kept, file_sha256(kept)
    record = InstalledEncoder(
        name=facts.name,
        repo=facts.repo,
        revision=revision,
        source=described,
        weights=str(weights),
        weights_sha256=weights_sha256,
        pulled=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    record_encoder(record)
    return record


def _copy(source: Path, sha256: str, target: Path) -> Path:
    if target.is_file() and file_sha256(target) == sha256:
        return target
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
        if file_sha256(temporary) != sha256:
            msg = (
                f"The file {source.name} changed while it was read; give it again when it is whole."
            )
            raise HashError(msg)
    return target


def _convert(facts: EncoderFacts, source: Path, sha256: str, target: Path) -> None:
    """Write what an encoder needs of a pickled file as safetensors."""
    from safetensors.torch import save_file

    from stem_core.encoders.weights import needed_names
    from zoo.checkpoint import read_checkpoint

    tensors = read_checkpoint(source).tensors
    kept = {name: tensors[name] for name in needed_names(facts, tensors)}
    if not kept:
        msg = (
            f"The file {source.name} holds nothing of {facts.title}; give the weights of "
            f"{facts.repo}."
        )
        raise ModelFileError(msg)
    save_file(kept, target, metadata={"format": "pt", "source_sha256": sha256})


def pull_encoder(
    name: str,
    *,
    update: bool = False,
    progress: Callable[[PullProgress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> InstalledEncoder:
    """Fetch an encoder's weights from the Hub, check them, and install them.

    The first pull records revision and sha256; later ones must agree until `update` is asked for.

    Parameters
    ----------
    name
        As in the catalogue.
    update
        Take the newest revision, whatever earlier pulls recorded.
    progress, should_stop
        As for models.

    Raises
    ------
    SettingsError
        No such encoder, or one that comes with the program.
    EncoderMissingError
        timm is not installed, so that nothing could be checked.
    HubError, HashError, ModelFileError, OutputError, Cancelled
        Nothing is installed then; what was stays.
    """
    from stem_core.encoders.timm_parts import import_timm
    from zoo import hub
    from zoo.install import PullProgress

    facts = published_encoder(name)
    import_timm()  # before gigabytes are fetched

    def report(stage: str, done: int = 0, total: int = 0) -> None:
        if progress is not None:
            progress(PullProgress(stage, done, total))

    with installing(name, lambda: report("waiting"), should_stop):
        pin = None if update else read_pins().get(f"encoder:{name}")
        here = installed_encoder(name)
        if here is not None and not update:
            if file_sha256(Path(here.weights)) == here.weights_sha256:
                return here
            hub.forget(Path(here.weights))  # or the cache would give the damaged one again
        report("listing")
        listed, path = _list(facts, pin)
        source = _fetch(facts, listed, path, pin, report, should_stop)
        record = install_weights(facts, listed.revision, source, path, report)
        found = Pin(repo=listed.repo, revision=listed.revision, files=(record.source,))
        record_pin(f"encoder:{name}", found)
        return record


def _list(facts: EncoderFacts, pin: Pin | None) -> tuple[Listing, str]:
    """List the repository and choose the file; from the cache where there is no network."""
    from zoo import hub

    # A file that was brought by hand says what it holds, not of which revision it is.
    pinned = None if pin is None or pin.revision == BY_HAND else pin
    revision = None if facts.revision == UNPINNED else facts.revision
    if pinned is not None:
        revision = revision or pinned.revision
    try:
        listed = hub.listing(facts.repo, revision)
    except HubOfflineError as error:
        if pinned is not None:
            for known in pinned.files:
                cached = hub.cached_file(facts.repo, pinned.revision, known.path)
                if cached is not None:
                    file = hub.RemoteFile(known.path, cached.stat().st_size, known.sha256, "")
                    return hub.Listing(facts.repo, pinned.revision, {known.path: file}), known.path
        msg = (
            f"{error} Get {' or '.join(facts.files)} of {facts.repo} where there is a network, "
            f"then run stem zoo pull-encoder {facts.name} --file FILE."
        )
        raise HubOfflineError(msg) from error
    wanted = [] if pin is None else [file.path for file in pin.files]
    if pinned is None:
        wanted += facts.files
    for path in wanted:
        if path in listed.files:
            return listed, path
    msg = (
        f"The repository {facts.repo} at revision {listed.revision[:12]} does not have "
        f"{' and '.join(wanted)}, which the weights of {facts.title} are published as; tell its "
        "authors."
    )
    raise HubMissingError(msg)


def _fetch(
    facts: EncoderFacts,
    listed: Listing,
    path: str,
    pin: Pin | None,
    report: Callable[[str, int, int], None],
    should_stop: Callable[[], bool],
) -> Path:
    """Fetch the file and compare it with what the first pull recorded."""
    from zoo import hub

    remote = listed.files[path]
    free = shutil.disk_usage(zoo_dir("partial")).free
    # A pickled file is kept a second time, as safetensors.
    needed = remote.size * (1 if path.endswith(".safetensors") else 2)
    if needed > free:
        msg = (
            f"The weights of {facts.title} take {needed / 1e6:.0f} MB, but only "
            f"{free / 1e6:.0f} MB are free; free space on the disk or set STEM_HOME and HF_HOME "
            "to another one."
        )
        raise OutputError(msg)
    done = 0

    def received(n: int) -> None:
        nonlocal done
        done += n
        report("download", done, remote.size)

    file = hub.fetch(listed, path, received, should_stop)
    if pin is not None and file_sha256(file) not in {known.sha256 for known in pin.files}:
        hub.forget(file)
        msg = (
            f"The file {path} of {facts.repo} is not the one that was recorded (its sha256 "
            "differs), so nothing was installed; pull with --update to take the new one."
        )
        raise HashError(msg)
    return file

"""The weights of encoders: a model's own, the program's, or pulled from the Hub.

Pickled weights (`pytorch_model.bin`) are read without running them and kept in
`<home>/zoo/encoders/` as safetensors; safetensors stay in the Hub's cache.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stem_core.encoders.catalogue import CATALOGUE, EncoderFacts, encoder_facts
from stem_core.errors import (
    EncoderMissingError,
    HashError,
    HubMissingError,
    HubOfflineError,
    ModelFileError,
    OutputError,
    SettingsError,
)
from zoo.encoder_records import (
    BY_HAND,
    InstalledEncoder,
    installed_encoder,
    missing_words,
    record_encoder,
)
from zoo.entries import UNPINNED, FileEntry, file_sha256
from zoo.places import zoo_dir
from zoo.records import Pin, read_pins, record_pin

if TYPE_CHECKING:
    from stem_core.encoders.condition import Encoder
    from zoo.hub import Listing
    from zoo.install import PullProgress

__all__ = [
    "ENCODERS_DIR",
    "find_encoder",
    "install_encoder_file",
    "pull_encoder",
]

ENCODERS_DIR = Path(__file__).parent / "encoders"


def find_encoder(names: Sequence[str], folder: Path | None = None) -> Encoder:
    """Load the encoders of a model, in its order; several become one.

    Parameters
    ----------
    names
        As in the catalogue.
    folder
        Of the model, which may have an encoder of its own.

    Raises
    ------
    EncoderMissingError
        Weights, or the package they need, are not on this machine.
    ModelFileError
        Weights are damaged.
    """
    from stem_core.encoders.compact import load_compact_encoder
    from stem_core.encoders.pair import JoinedEncoder

    subject = "This" if folder is None else f"The model {folder.name}"
    if absent := missing_words(subject, [n for n in names if encoder_facts(n) is not None]):
        raise EncoderMissingError(absent)  # of all encoders at once
    own = None if folder is None else folder / "encoder.safetensors"
    found: list[Encoder] = []
    for name in names:
        facts = encoder_facts(name)
        if facts is not None and facts.repo:
            found.append(_load_pulled(facts))
            continue
        shared = ENCODERS_DIR / f"{name}.safetensors"
        file = own if own is not None and own.is_file() else shared
        if not file.is_file():
            msg = (
                f"{subject} needs the encoder {name}, which is not among the program's files; "
                "update the program or install it again."
            )
            raise EncoderMissingError(msg)
        found.append(load_compact_encoder(file))
    return found[0] if len(found) == 1 else JoinedEncoder(tuple(found))


def _load_pulled(facts: EncoderFacts) -> Encoder:
    from stem_core.encoders.foundation import load_published

    record = installed_encoder(facts.name)
    assert record is not None
    weights = Path(record.weights)
    if file_sha256(weights) != record.weights_sha256:
        msg = (
            f"The weights of {facts.title} are not what they were when they were pulled "
            f"({weights}); run stem zoo pull-encoder {facts.name} again."
        )
        raise HashError(msg)
    return load_published(facts, weights, sha256=record.source.sha256)


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
    from filelock import FileLock

    from stem_core.encoders.timm_parts import import_timm
    from zoo import hub
    from zoo.install import PullProgress, take_turn

    facts = _published(name)
    import_timm()  # before gigabytes are fetched

    def report(stage: str, done: int = 0, total: int = 0) -> None:
        if progress is not None:
            progress(PullProgress(stage, done, total))

    lock = FileLock(zoo_dir("locks") / f"encoder-{name}.lock")
    if not take_turn(lock, lambda: report("waiting"), should_stop):
        msg = f"Another process has been pulling {name} for an hour; stop it, then try again."
        raise OutputError(msg)
    try:
        pin = None if update else read_pins().get(f"encoder:{name}")
        here = installed_encoder(name)
        if here is not None and not update:
            if file_sha256(Path(here.weights)) == here.weights_sha256:
                return here
            hub.forget(Path(here.weights))  # or the cache would give the damaged one again
        report("listing")
        pinned = None if pin is None else pin.revision
        listed, path = _list(facts, pinned if facts.revision == UNPINNED else facts.revision, pin)
        source = _fetch(facts, listed, path, pin, report, should_stop)
        record = _install(facts, listed.revision, source, path, report)
        assert record.source.sha256 is not None
        record_pin(
            f"encoder:{name}",
            Pin(repo=listed.repo, revision=listed.revision, files=(record.source,)),
        )
        return record
    finally:
        lock.release()


def install_encoder_file(name: str, path: Path) -> InstalledEncoder:
    """Install an encoder from its published file, which was brought here by other means.

    Raises
    ------
    SettingsError, EncoderMissingError, ModelFileError, OutputError
        As `pull_encoder`.
    """
    from stem_core.encoders.timm_parts import import_timm

    facts = _published(name)
    import_timm()
    if not path.is_file():
        msg = f"The file {path} is not there; give the weights of {facts.repo}."
        raise SettingsError(msg)
    pin = read_pins().get(f"encoder:{name}")
    if pin is not None and file_sha256(path) not in {f.sha256 for f in pin.files}:
        msg = (
            f"The file {path.name} is not the one that was pulled first for {facts.title} (its "
            "sha256 differs); get the same revision, or pull with --update."
        )
        raise HashError(msg)
    return _install(facts, BY_HAND, path.absolute(), path.name, lambda *_: None)


def _published(name: str) -> EncoderFacts:
    facts = encoder_facts(name)
    if facts is None or not facts.repo:
        known = ", ".join(other.name for other in CATALOGUE.values() if other.repo)
        what = "comes with the program" if facts is not None else "is not known"
        msg = f"The encoder '{name}' {what}; those that can be pulled are {known}."
        raise SettingsError(msg)
    return facts


def _list(facts: EncoderFacts, revision: str | None, pin: Pin | None) -> tuple[Listing, str]:
    """List the repository and choose the file; from the cache where there is no network."""
    from zoo import hub

    try:
        listed = hub.listing(facts.repo, revision)
    except HubOfflineError as error:
        for known in () if pin is None else pin.files:
            cached = hub.cached_file(facts.repo, pin.revision, known.path) if pin else None
            if cached is not None and pin is not None:
                file = hub.RemoteFile(known.path, cached.stat().st_size, known.sha256, "")
                return hub.Listing(facts.repo, pin.revision, {known.path: file}), known.path
        msg = (
            f"{error} Get {' or '.join(facts.files)} of {facts.repo} where there is a network, "
            f"then run stem zoo pull-encoder {facts.name} --file FILE."
        )
        raise HubOfflineError(msg) from error
    wanted = [f.path for f in pin.files] if pin is not None else facts.files
    for path in wanted:
        if path in listed.files:
            return listed, path
    msg = (
        f"The repository {facts.repo} at revision {listed.revision[:12]} lacks "
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
    recorded = {} if pin is None else {f.path: f.sha256 for f in pin.files}
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
    if recorded.get(path) and file_sha256(file) != recorded[path]:
        hub.forget(file)
        msg = (
            f"The file {path} of {facts.repo} is not the one that was recorded (its sha256 "
            "differs), so nothing was installed; pull with --update to take the new one."
        )
        raise HashError(msg)
    return file


def _install(
    facts: EncoderFacts,
    revision: str,
    source: Path,
    path: str,
    report: Callable[..., None],
) -> InstalledEncoder:
    """Convert where need be, load once, and write the record."""
    from stem_core.encoders.foundation import load_published

    described = FileEntry(path=path, size=source.stat().st_size, sha256=file_sha256(source))
    weights = source
    if not path.endswith(".safetensors"):
        report("convert")
        weights = _as_safetensors(facts, source, str(described.sha256))
    report("check")
    weights_sha256 = described.sha256 if weights is source else file_sha256(weights)
    load_published(facts, weights, sha256=described.sha256)
    record = InstalledEncoder(
        name=facts.name,
        repo=facts.repo,
        revision=revision,
        source=described,
        weights=str(weights),
        weights_sha256=str(weights_sha256),
        pulled=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    record_encoder(record)
    return record


def _as_safetensors(facts: EncoderFacts, source: Path, sha256: str) -> Path:
    """Write what an encoder needs of a pickled file as safetensors, aside and then in place."""
    from safetensors import SafetensorError
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
    target = zoo_dir("encoders") / f"{facts.name}-{sha256[:12]}.safetensors"
    aside = target.with_suffix(".aside")
    try:
        save_file(kept, aside, metadata={"format": "pt", "source_sha256": sha256})
        aside.replace(target)
    except (OSError, SafetensorError) as error:
        msg = f"The file {target} cannot be written ({error}); free space on that disk."
        raise OutputError(msg) from error
    finally:
        aside.unlink(missing_ok=True)
    return target

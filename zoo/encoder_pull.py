"""Pull the weights of published encoders from the Hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stem_core.encoders.catalogue import EncoderFacts
from stem_core.errors import HashError, HubMissingError, HubOfflineError, OutputError
from stem_core.files import file_sha256
from stem_core.model.manifest import UNPINNED
from zoo.encoder_install import install_weights, installing, published_encoder
from zoo.encoder_records import InstalledEncoder, installed_encoder
from zoo.places import zoo_dir
from zoo.records import BY_HAND, Pin, read_pins, record_pin

if TYPE_CHECKING:
    from zoo.hub import Listing
    from zoo.install import PullProgress

__all__ = ["pull_encoder"]


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

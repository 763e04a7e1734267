"""Pull models and encoders from the Hub, or take what was brought by hand; check, then install.

Both take the same way: list the repository, compare with what was recorded, fetch, make the folder,
load it once, record it. What differs is which files are wanted and what is made of them.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stem_core.encoders.catalogue import CATALOGUE, EncoderFacts, encoder_facts
from stem_core.errors import (
    HashError,
    HubMissingError,
    HubOfflineError,
    ModelFileError,
    OutputError,
    SettingsError,
)
from stem_core.files import file_sha256
from stem_core.model.manifest import UNPINNED
from zoo import hub
from zoo.entries import MODEL_FILES, FileEntry, ModelEntry
from zoo.places import local_models_dirs, zoo_dir
from zoo.store import (
    BY_HAND,
    Artifact,
    Kind,
    Pin,
    blob_path,
    faulty_files,
    find_installed,
    install,
    pinned_revision,
    place_file,
    read_pins,
    record_pin,
    take_turn,
)

__all__ = [
    "PullProgress",
    "install_encoder_file",
    "pull",
    "pull_encoder",
    "pull_size",
]

_SAFE = ".safetensors"
_PICKLED = (".bin", ".pt", ".pth")


@dataclass(frozen=True)
class PullProgress:
    """How far a pull is: `done_bytes` of `total_bytes` of a stage.

    Stages are `waiting` (another process pulls the same thing), `listing`, `download`, `convert`
    and `check`.
    """

    stage: str
    done_bytes: int = 0
    total_bytes: int = 0


Report = Callable[[PullProgress], None]


def pull_size(entry: ModelEntry) -> int:
    """Ask how many bytes a pull of a model takes, from the registry or else from the Hub.

    Raises
    ------
    HubError
        The Hub does not say.
    """
    if entry.size_bytes is not None:
        return entry.size_bytes
    wish = _ModelWish(entry)
    listed = hub.listing(wish.repo, wish.revision)
    return sum(listed.files[path].size for path in wish.choose(listed))


def pull(
    entry: ModelEntry,
    *,
    update: bool = False,
    progress: Report | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Artifact:
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
    return _pull(_ModelWish(entry, update=update), progress, should_stop)


def pull_encoder(
    name: str,
    *,
    update: bool = False,
    progress: Report | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Artifact:
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
    return _pull(_EncoderWish(_published_encoder(name), update=update), progress, should_stop)


def install_encoder_file(name: str, path: Path, *, update: bool = False) -> Artifact:
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
    facts = _published_encoder(name)
    if not path.is_file():
        msg = f"The file {path} is not there; give the weights of {facts.repo}."
        raise SettingsError(msg)
    wish = _EncoderWish(facts, update=update)
    with take_turn(wish.key):
        pin = read_pins().get(wish.key)
        known = set() if pin is None else {file.sha256 for file in pin.files}
        if not update and pin is not None and file_sha256(path) not in known:
            msg = (
                f"The file {path.name} is not the one that was installed first for {facts.title} "
                "(its sha256 differs); give that one, or add --update to take this one instead."
            )
            raise HashError(msg)
        alike = (n for n in facts.files if n.endswith(_SAFE) == path.name.endswith(_SAFE))
        files = {next(alike, path.name): path}
        record = _install(wish, BY_HAND, files, lambda stage: None)
        if record.published[0].sha256 not in known:
            record_pin(wish.key, Pin(repo=facts.repo, revision=BY_HAND, files=record.published))
    return record


class _Wish(ABC):
    """What is to be pulled: which files of which repository, and what is made of them."""

    kind: Kind
    name: str
    title: str
    repo: str
    pinned_by_list: bool  # the registry, or the catalogue, names the revision

    def __init__(self, revision: str, *, update: bool) -> None:
        self.pinned_by_list = revision != UNPINNED
        self.pin = None if update or self.pinned_by_list else read_pins().get(self.key)
        if self.pin is not None and self.pin.repo != self.repo:
            self.pin = None
        newest = update and not self.pinned_by_list
        self.revision = None if newest else pinned_revision(self.repo, revision, self.key)

    @property
    def key(self) -> str:
        """Its name among pins and locks."""
        return self.name

    @abstractmethod
    def keeps(self, here: Artifact) -> bool:
        """Say whether what is installed is what is wished for."""

    @abstractmethod
    def known(self) -> tuple[FileEntry, ...]:
        """Return what was recorded of the files."""

    @abstractmethod
    def choose(self, listed: hub.Listing) -> list[str]:
        """Return the files to fetch; raise HubMissingError where one is not there."""

    @abstractmethod
    def must_agree(self, path: str) -> FileEntry | None:
        """Return what a file must be, where it was recorded."""

    @abstractmethod
    def by_other_means(self) -> str:
        """Say what to do where there is no network."""

    @abstractmethod
    def make(
        self, files: Mapping[str, Path], folder: Path, report: Callable[[str], None]
    ) -> tuple[FileEntry, ...]:
        """Fill the folder, load it once, and return the published files if those differ."""


class _ModelWish(_Wish):
    kind: Kind = "model"

    def __init__(self, entry: ModelEntry, *, update: bool = False) -> None:
        assert entry.hub is not None, "only Hub entries are pulled"
        self.entry, self.source, self.repo = entry, entry.hub, entry.hub.repo
        self.name, self.title = entry.name, f"The model {entry.name}"
        super().__init__(entry.hub.revision, update=update)

    def keeps(self, here: Artifact) -> bool:
        return here.revision == self.revision

    def known(self) -> tuple[FileEntry, ...]:
        return self.source.files or (self.pin.files if self.pin is not None else ())

    def choose(self, listed: hub.Listing) -> list[str]:
        needed = self.entry.wanted_files if self.entry.convert else MODEL_FILES[:3]
        missing = [path for path in needed if path not in listed.files]
        if missing:
            msg = (
                f"The repository {listed.repo} at revision {listed.revision[:12]} does not have "
                f"{' and '.join(missing)}, so it holds no model of this kind; tell its authors."
            )
            raise HubMissingError(msg)
        return [path for path in self.entry.wanted_files if path in listed.files]

    def must_agree(self, path: str) -> FileEntry | None:
        pinned = self.pin.files if self.pin is not None else ()
        return {f.path: f for f in (*pinned, *self.source.files)}.get(path)

    def by_other_means(self) -> str:
        folder = local_models_dirs()[0] / self.name
        names = ", ".join(self.entry.wanted_files)
        if (convert := self.entry.convert) is not None:
            return (
                f"{self.title} needs {names} of {self.repo}: get them where there is a network, "
                f"then run stem zoo convert {convert.checkpoint} --genes {convert.genes} --name "
                f"{self.name} --out {folder}."
            )
        return (
            f"{self.title} needs the files {names} of {self.repo} (the last three where they are "
            f"there): get them where there is a network and put them into {folder}."
        )

    def make(
        self, files: Mapping[str, Path], folder: Path, report: Callable[[str], None]
    ) -> tuple[FileEntry, ...]:
        from stem_core.model.folder import check_model

        sources: tuple[FileEntry, ...] = ()
        if self.entry.convert is not None:
            from zoo.convert import convert_entry

            report("convert")
            sources = tuple(_described(path, file) for path, file in files.items())
            convert_entry(self.entry, files, folder)
        else:
            for path, file in files.items():
                place_file(file, folder / path)
        report("check")
        manifest = check_model(folder)
        if manifest.name != self.name:
            msg = (
                f"The repository {self.repo} holds the model {manifest.name}, not {self.name} "
                "as the registry says; correct the registry."
            )
            raise ModelFileError(msg)
        return sources


class _EncoderWish(_Wish):
    kind: Kind = "encoder"

    def __init__(self, facts: EncoderFacts, *, update: bool = False) -> None:
        from stem_core.encoders.timm_parts import import_timm

        import_timm()  # before gigabytes are fetched
        self.facts, self.repo, self.update = facts, facts.repo, update
        self.name, self.title = facts.name, f"The encoder {facts.title}"
        super().__init__(facts.revision, update=update)

    @property
    def key(self) -> str:
        return f"encoder:{self.name}"

    def keeps(self, here: Artifact) -> bool:
        return not self.update

    def known(self) -> tuple[FileEntry, ...]:
        return self.pin.files if self.pin is not None and self.pin.revision != BY_HAND else ()

    def choose(self, listed: hub.Listing) -> list[str]:
        wanted = [file.path for file in self.pin.files] if self.pin is not None else []
        wanted += [] if self.known() else self.facts.files
        there = [path for path in wanted if path in listed.files]
        if not there:
            msg = (
                f"The repository {self.repo} at revision {listed.revision[:12]} does not have "
                f"{' and '.join(wanted)}, which the weights of {self.facts.title} are published "
                "as; tell its authors."
            )
            raise HubMissingError(msg)
        return there[:1]

    def must_agree(self, path: str) -> FileEntry | None:
        return self.pin.files[0] if self.pin is not None else None

    def by_other_means(self) -> str:
        return (
            f"Get {' or '.join(self.facts.files)} of {self.repo} where there is a network, then "
            f"run stem zoo pull-encoder {self.name} --file FILE."
        )

    def make(
        self, files: Mapping[str, Path], folder: Path, report: Callable[[str], None]
    ) -> tuple[FileEntry, ...]:
        from stem_core.encoders.foundation import load_published

        ((path, file),) = files.items()
        source = _described(path, file)
        safe = path.endswith(_SAFE)
        weights = folder / (Path(path).name if safe else f"model{_SAFE}")
        if not safe:
            report("convert")
            _convert_encoder(self.facts, file, weights, str(source.sha256))
        else:
            place_file(file, weights)
        report("check")
        load_published(self.facts, weights, sha256=str(source.sha256))
        return () if safe and weights.name == path else (source,)


def _pull(wish: _Wish, progress: Report | None, should_stop: Callable[[], bool]) -> Artifact:
    """Take the way that models and encoders share; nothing is installed where it ends early."""

    def report(stage: str, done: int = 0, total: int = 0) -> None:
        if progress is not None:
            progress(PullProgress(stage, done, total))

    with take_turn(wish.key, lambda: report("waiting"), should_stop):
        here = find_installed(wish.kind, wish.name)
        if here is not None and wish.keeps(here) and not faulty_files(here.path, here.files):
            return here
        report("listing")
        listed = _list(wish)
        wanted = wish.choose(listed)
        for path in wanted:
            _require_agreement(wish, listed, path)
        files = _fetch(wish, listed, wanted, report, should_stop)
        record = _install(wish, listed.revision, files, report)
        if not wish.pinned_by_list:
            pin = Pin(repo=listed.repo, revision=listed.revision, files=record.published)
            record_pin(wish.key, pin)
        return record


def _install(
    wish: _Wish, revision: str, files: Mapping[str, Path], report: Callable[[str], None]
) -> Artifact:
    """Make the artifact of these files; those outside the store may change, and are copied."""

    def make(folder: Path) -> tuple[FileEntry, ...]:
        with tempfile.TemporaryDirectory(dir=zoo_dir("partial")) as named:
            sources = {}
            for number, (path, file) in enumerate(files.items()):
                sources[path] = Path(named, str(number), Path(path).name)
                sources[path].parent.mkdir()
                if file.parent == zoo_dir("blobs"):
                    place_file(file, sources[path])
                else:
                    shutil.copyfile(file, sources[path])
            return wish.make(sources, folder, report)

    return install(wish.kind, wish.name, repo=wish.repo, revision=revision, make=make)


def _list(wish: _Wish) -> hub.Listing:
    """List the repository; where there is no network, what of it is on this machine."""
    try:
        return hub.listing(wish.repo, wish.revision)
    except HubOfflineError as error:
        if wish.revision is not None:
            known = hub.known_listing(wish.repo, wish.revision, wish.known())
            if known is not None:
                return known
        msg = f"{error} {wish.by_other_means()}"
        raise HubOfflineError(msg) from error


def _require_agreement(wish: _Wish, listed: hub.Listing, path: str, sha256: str = "") -> None:
    """Compare a file, as listed or as it came (`sha256`), with what was recorded."""
    known, remote = wish.must_agree(path), listed.files[path]
    if known is None:
        return
    found = sha256 or remote.sha256
    if (known.size is not None and known.size != remote.size) or (
        known.sha256 and found and known.sha256 != found
    ):
        remedy = (
            "Tell its authors, or update the registry."
            if wish.pinned_by_list
            else "Tell its authors, or pull with --update to take the new one."
        )
        msg = (
            f"The file {path} of {listed.repo} is not the one that was recorded (size or sha256 "
            f"differ); nothing was installed. {remedy}"
        )
        raise HashError(msg)


def _fetch(
    wish: _Wish,
    listed: hub.Listing,
    wanted: Iterable[str],
    report: Callable[[str, int, int], None],
    should_stop: Callable[[], bool],
) -> dict[str, Path]:
    """Fetch files one after the other, and check each against what was recorded."""
    remotes = [listed.files[path] for path in wanted]
    total = sum(remote.size for remote in remotes)
    # What has to be converted is here twice for a while.
    needed = sum(r.size * (2 if r.path.endswith(_PICKLED) else 1) for r in remotes)
    free = shutil.disk_usage(zoo_dir("partial")).free
    if needed > free:
        msg = (
            f"{wish.title} takes {needed / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are free; "
            "free space on the disk or set STEM_HOME to another one."
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
    for remote in remotes:
        came = hub.fetch(listed, remote.path, received, should_stop)
        _require_agreement(wish, listed, remote.path, str(came.sha256))
        files[remote.path] = blob_path(str(came.sha256))
    return files


def _published_encoder(name: str) -> EncoderFacts:
    """Return the facts of an encoder whose weights can be pulled."""
    facts = encoder_facts(name)
    if facts is None or not facts.repo:
        known = ", ".join(other.name for other in CATALOGUE.values() if other.repo)
        what = "comes with the program" if facts is not None else "is not known"
        msg = f"The encoder '{name}' {what}; those that can be pulled are {known}."
        raise SettingsError(msg)
    return facts


def _convert_encoder(facts: EncoderFacts, source: Path, target: Path, sha256: str) -> None:
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


def _described(path: str, file: Path) -> FileEntry:
    return FileEntry(path=path, size=file.stat().st_size, sha256=file_sha256(file))

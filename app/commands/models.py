"""`stem zoo list | info | pull | pull-encoder | verify | remove | push`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.options import Json
from app.terminal import BAD_INPUT, CTRL_C, DONE, Terminal, TerminalOptions, one_line
from stem_core.errors import SettingsError, StemError

if TYPE_CHECKING:
    from zoo.registry import ModelListing

__all__ = ["info", "list_models", "pull", "pull_encoder", "push", "remove", "verify"]


def list_models(*, as_json: Json = False, terminal: TerminalOptions = Terminal()) -> int:
    """List the models, installed or not.

    Parameters
    ----------
    as_json
        Print JSON.
    """
    from zoo.registry import list_offers

    found = list_offers()
    for fault in found.faults.values():
        terminal.warn(one_line(fault))
    if as_json:
        _print_json([_facts(offer) for offer in found.offers])
        return DONE
    table = [("NAME", "TISSUE", "SPECIES", "PLATFORM", "GENES", "HELD-OUT PCC", "STATE", "SOURCE")]
    for offer in found.offers:
        entry = offer.entry
        table.append(
            (
                entry.name,
                entry.tissue,
                entry.species,
                entry.platform,
                str(entry.n_genes),
                entry.held_out.summary,
                offer.state,
                entry.source + (", gated" if entry.gated else ""),
            )
        )
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)).rstrip())
    return DONE


def info(name: str, /, *, as_json: Json = False, terminal: TerminalOptions = Terminal()) -> int:
    """Show everything known about a model.

    Parameters
    ----------
    name
        Name of the model.
    as_json
        Print JSON.
    """
    from zoo.registry import find_offer

    offer = find_offer(name)
    if as_json:
        _print_json(_facts(offer))
        return DONE
    entry = offer.entry
    rows: list[tuple[str, str]] = [
        ("Title", entry.title),
        ("Version", entry.version),
        ("State", offer.state),
        ("Listed in", offer.listed_in),
        ("Tissue", f"{entry.tissue} ({entry.organ}), {entry.species}"),
        ("Disease", entry.disease),
        ("Platform", entry.platform),
        ("Genes", f"{entry.n_genes}, in {entry.units}"),
        ("Encoders", " ⊕ ".join(_encoder_words(encoder) for encoder in entry.encoders)),
        ("Held-out PCC", entry.held_out.summary),
        ("Protocol", f"{entry.held_out.protocol} {entry.held_out.note}"),
        ("Licences", _licence_words(offer)),
        ("Cite", entry.citation),
    ]
    if entry.hub is not None:
        rows.append(("Repository", f"{entry.hub.repo}, revision {entry.hub.revision}"))
    if entry.size_bytes is not None:
        rows.append(("Size", f"{entry.size_bytes / 1e6:.1f} MB"))
    if offer.usable is not None:
        rows.append(("Folder", str(offer.usable.folder)))
    if offer.record is not None:
        rows.append(("Pulled", f"{offer.record.pulled}, revision {offer.record.revision}"))
    for title, value in rows:
        print(f"{title:<13} {value}")
    return DONE


def pull(name: str, /, *, update: bool = False, terminal: TerminalOptions = Terminal()) -> int:
    """Fetch a model from the Hugging Face Hub.

    Parameters
    ----------
    name
        Name of the model.
    update
        Take the newest revision of an unpinned model.
    """
    from zoo.pull import pull as pull_model
    from zoo.pull import pull_size
    from zoo.registry import find_offer, missing_encoders

    offer = find_offer(name)
    entry = offer.entry
    if entry.hub is None:
        terminal.say(f"{entry.name} is {entry.source}: it is here already.")
        return DONE
    if terminal.watched and offer.state != "installed":
        terminal.report(f"Licences: {_licence_words(offer)}")
        terminal.report(f"Size: {pull_size(entry) / 1e6:.1f} MB")
    bar = _BytesBar(terminal)
    try:
        record = pull_model(entry, update=update, progress=bar, should_stop=CTRL_C.is_set)
    finally:
        bar.close()
    terminal.say(
        f"Installed {record.name} ({record.size_bytes / 1e6:.1f} MB) from {record.repo} at "
        f"revision {record.revision}; every file checked."
    )
    terminal.say(f"Licences: {_licence_words(offer)}")
    if missing := missing_encoders(f"The model {entry.name}", entry.encoders):
        terminal.say(missing)
    return DONE


def pull_encoder(
    name: str,
    /,
    *,
    update: bool = False,
    file: Path | None = None,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Fetch the weights of an encoder from the Hub, or copy them from a file.

    Parameters
    ----------
    name
        Name of the encoder; `stem doctor --gated` lists them.
    update
        Take the newest revision, or another file.
    file
        Published file of the weights that you fetched by other means; a copy is kept.
    """
    from stem_core.encoders.catalogue import encoder_facts
    from zoo.pull import install_encoder_file
    from zoo.pull import pull_encoder as pull_weights

    facts = encoder_facts(name)
    if facts is not None and terminal.watched:
        terminal.report(f"Licence: {facts.licence}")
    if file is not None:
        record = install_encoder_file(name, file, update=update)
    else:
        bar = _BytesBar(terminal)
        try:
            record = pull_weights(name, update=update, progress=bar, should_stop=CTRL_C.is_set)
        finally:
            bar.close()
    source = record.published[0]
    terminal.say(
        f"Installed the encoder {record.name} ({(source.size or 0) / 1e6:.1f} MB) from "
        f"{record.repo}, revision {record.revision}, sha256 {source.sha256}; it loads."
    )
    return DONE


def verify(name: str | None = None, /, *, terminal: TerminalOptions = Terminal()) -> int:
    """Compare the files of installed models and encoders with what was recorded, and load them.

    Parameters
    ----------
    name
        Name of the model or encoder; all that are installed by default.
    """
    from zoo.registry import find_offer, list_offers
    from zoo.store import installed

    encoders = installed("encoder")
    if name in encoders:
        offers, encoders = [], {name: encoders[name]}
    elif name is not None:
        offers, encoders = [find_offer(name)], {}
        if offers[0].usable is None:
            msg = f"The model {name} is not installed; run stem zoo pull {name}."
            raise SettingsError(msg)
    else:
        offers = [offer for offer in list_offers().offers if offer.usable is not None]
    faults = {offer.entry.name: _fault(offer) for offer in offers}
    faults |= {found: _encoder_fault(found) for found in encoders}
    for found, fault in faults.items():
        terminal.say(f"{found}: {fault or 'every file is what it was, and it loads'}")
    bad = [found for found, fault in faults.items() if fault]
    if bad:
        terminal.fail(f"Damaged: {', '.join(bad)}; install them again.")
        return BAD_INPUT
    return DONE


def _fault(offer: ModelListing) -> str:
    """Say what is wrong with an installed model; "" for nothing."""
    from stem_core.model.folder import check_model
    from zoo.store import faulty_files

    assert offer.usable is not None
    folder = offer.usable.folder
    if offer.record is not None:
        changed = faulty_files(offer.record.path, offer.record.files)
    else:
        changed = faulty_files(folder, offer.entry.files)
    if changed:
        return f"changed or missing: {', '.join(changed)}"
    try:
        check_model(folder)
    except StemError as error:
        return one_line(error)
    return ""


def _encoder_fault(name: str) -> str:
    """Say what is wrong with an installed encoder; "" for nothing."""
    from zoo.loader import find_encoder

    try:
        find_encoder([name])
    except StemError as error:
        return one_line(error)
    return ""


def remove(name: str, /, *, terminal: TerminalOptions = Terminal()) -> int:
    """Remove a model or an encoder that was pulled.

    Parameters
    ----------
    name
        Name of the model or encoder.
    """
    from zoo.registry import find_offer
    from zoo.store import find_installed
    from zoo.store import remove as remove_artifact

    if find_installed("encoder", name) is not None:
        freed = remove_artifact("encoder", name)
        terminal.say(f"Removed the encoder {name}; {freed / 1e6:.1f} MB are free again.")
        return DONE
    offer = find_offer(name)
    if offer.record is None and offer.usable is not None:
        where = "comes with the program" if offer.usable.source == "bundled" else "is a folder"
        msg = (
            f"The model {name} {where} ({offer.usable.folder}) and was not pulled; delete "
            "that folder by hand if you must."
        )
        raise SettingsError(msg)
    freed = remove_artifact("model", name)
    terminal.say(f"Removed {name}; {freed / 1e6:.1f} MB are free again.")
    return DONE


def push(
    folder: Path,
    repo: str,
    /,
    *,
    private: bool = False,
    dry_run: bool = False,
    terminal: TerminalOptions = Terminal(),
) -> int:
    """Publish a model folder on the Hub.

    Parameters
    ----------
    folder
        Model folder.
    repo
        Repository, ORG/NAME.
    private
        Make the repository private.
    dry_run
        Check the folder and list its files, send nothing.
    """
    from zoo.publish import publish

    done = publish(folder, repo, private=private, dry_run=dry_run)
    for file in done.files:
        terminal.say(f"{file.path:<24} {(file.size or 0) / 1e6:8.2f} MB  sha256 {file.sha256}")
    if dry_run:
        terminal.say(f"Nothing was sent. These {len(done.files)} files would go to {repo}.")
        return DONE
    terminal.say(f"Published {repo} at revision {done.revision}. The entry for a registry:")
    assert done.entry is not None
    terminal.say(done.entry.model_dump_json(indent=1, exclude_defaults=True))
    return DONE


def _facts(offer: ModelListing) -> dict[str, Any]:
    """Return what is known of a model as plain values."""
    entry = offer.entry
    facts = entry.model_dump(mode="json", exclude={"convert"})
    facts["held_out"] = entry.held_out.model_dump(mode="json", exclude={"folds"})
    facts.update(state=offer.state, listed_in=offer.listed_in, size_bytes=entry.size_bytes)
    if offer.usable is not None:
        manifest = offer.usable.manifest
        facts["folder"] = str(offer.usable.folder)
        facts |= manifest.model_dump(
            mode="json", include={"layout", "presets", "training_slides", "panel_rule"}
        )
    if offer.record is not None:
        facts["pulled"] = offer.record.model_dump(mode="json", include={"revision", "pulled"})
    return facts


def _print_json(facts: object) -> None:
    print(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False))


def _encoder_words(name: str) -> str:
    from stem_core.encoders.catalogue import encoder_facts

    facts = encoder_facts(name)
    if facts is None or not facts.repo:
        return name
    return f"{facts.title} ({facts.repo}{', gated' if facts.gated else ''}; {facts.licence})"


def _licence_words(offer: ModelListing) -> str:
    licences = offer.entry.licences
    return f"code {licences.code}; weights {licences.weights}; data {licences.data}"


class _BytesBar:
    """Progress of a pull for a person at a terminal; silent elsewhere."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._bar: Any = None
        self._stage = ""

    def __call__(self, progress: Any) -> None:
        """Show how far the pull is."""
        if not self._terminal.watched:
            return
        if progress.stage != self._stage:
            self._stage = progress.stage
            if progress.stage in ("waiting", "convert", "check"):
                words = {
                    "waiting": "Another process is pulling this model; waiting …",
                    "convert": "Converting …",
                    "check": "Checking …",
                }
                self.close()
                self._terminal.report(words[progress.stage])
        if progress.stage == "download":
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=progress.total_bytes,
                    unit="B",
                    unit_scale=True,
                    desc="Downloading",
                    file=self._terminal.stream,
                )
            self._bar.n = progress.done_bytes
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

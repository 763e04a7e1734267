"""What `stem zoo list | info | pull | pull-encoder | verify | remove | push | convert` do."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, TextIO

from app.exit_codes import BAD_INPUT, DONE
from app.terminal import CTRL_C, one_line
from stem_core.errors import SettingsError, StemError

if TYPE_CHECKING:
    from zoo.convert import ModelFacts
    from zoo.registry import Offer

__all__ = ["convert", "info", "list_all", "pull", "pull_encoder", "push", "remove", "verify"]


def list_all(args: argparse.Namespace, stream: TextIO) -> int:
    """List the models, here or not."""
    from zoo.registry import list_offers

    found = list_offers()
    for fault in found.faults.values():
        print(f"Warning: {one_line(fault)}", file=stream)
    if args.json:
        print(json.dumps([_facts(o) for o in found.offers], indent=2, ensure_ascii=False))
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
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return DONE


def info(args: argparse.Namespace, stream: TextIO) -> int:
    """Show everything known of one model."""
    from zoo.registry import find_offer

    offer = find_offer(args.name)
    if args.json:
        print(json.dumps(_facts(offer), indent=2, ensure_ascii=False))
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
        ("Encoders", " ⊕ ".join(_encoder_words(name) for name in entry.encoders)),
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
    for name, value in rows:
        print(f"{name:<13} {value}")
    return DONE


def pull(args: argparse.Namespace, stream: TextIO) -> int:
    """Fetch a model from the Hub."""
    from zoo.entries import missing_encoders
    from zoo.install import pull as pull_model
    from zoo.install import pull_size
    from zoo.registry import find_offer

    offer = find_offer(args.name)
    entry = offer.entry
    if entry.hub is None:
        print(f"{entry.name} is {entry.source}: it is here already.")
        return DONE
    if stream.isatty() and offer.state != "installed":
        print(f"Licences: {_licence_words(offer)}", file=stream)
        print(f"Size: {pull_size(entry) / 1e6:.1f} MB", file=stream)
    bar = _BytesBar(stream)
    try:
        record = pull_model(entry, update=args.update, progress=bar, should_stop=CTRL_C.is_set)
    finally:
        bar.close()
    size = sum(f.size or 0 for f in record.files)
    print(
        f"Installed {record.name} ({size / 1e6:.1f} MB) from {record.repo} at revision "
        f"{record.revision}; every file checked."
    )
    print(f"Licences: {_licence_words(offer)}")
    if missing := missing_encoders(entry.name, entry.encoders):
        print(missing)
    return DONE


def pull_encoder(args: argparse.Namespace, stream: TextIO) -> int:
    """Fetch an encoder's weights from the Hub, or take them from a file."""
    from stem_core.encoders.catalogue import encoder_facts
    from zoo.encoder_install import install_encoder_file
    from zoo.encoder_pull import pull_encoder as pull_weights

    facts = encoder_facts(args.name)
    if facts is not None and stream.isatty():
        print(f"Licence: {facts.licence}", file=stream)
    if args.file is not None:
        record = install_encoder_file(args.name, args.file, update=args.update)
    else:
        bar = _BytesBar(stream)
        try:
            record = pull_weights(
                args.name, update=args.update, progress=bar, should_stop=CTRL_C.is_set
            )
        finally:
            bar.close()
    print(
        f"Installed the encoder {record.name} ({(record.source.size or 0) / 1e6:.1f} MB) from "
        f"{record.repo}, revision {record.revision}, sha256 {record.source.sha256}; it loads."
    )
    return DONE


def verify(args: argparse.Namespace, stream: TextIO) -> int:
    """Compare the files of installed models with what was recorded, and load them."""
    from zoo.registry import find_offer, list_offers

    if args.name is not None:
        offers = [find_offer(args.name)]
        if offers[0].usable is None:
            msg = f"The model {args.name} is not installed; run stem zoo pull {args.name}."
            raise SettingsError(msg)
    else:
        offers = [offer for offer in list_offers().offers if offer.usable is not None]
    bad = []
    for offer in offers:
        fault = _fault(offer)
        print(f"{offer.entry.name}: {fault or 'every file is what it was, and it loads'}")
        if fault:
            bad.append(offer.entry.name)
    if bad:
        print(f"stem: Damaged: {', '.join(bad)}; install them again.", file=stream)
        return BAD_INPUT
    return DONE


def _fault(offer: Offer) -> str:
    """Say what is wrong with an installed model; "" for nothing."""
    from stem_core.files import file_sha256
    from zoo.loader import check_model
    from zoo.records import faulty_files

    assert offer.usable is not None
    folder = offer.usable.folder
    if offer.record is not None:
        changed = faulty_files(offer.record)
    else:
        changed = [
            f.path
            for f in offer.entry.files
            if not (folder / f.path).is_file() or file_sha256(folder / f.path) != f.sha256
        ]
    if changed:
        return f"changed or missing: {', '.join(changed)}"
    try:
        check_model(folder)
    except StemError as error:
        return one_line(error)
    return ""


def remove(args: argparse.Namespace, stream: TextIO) -> int:
    """Remove a model that was pulled."""
    from zoo.install import remove as remove_model
    from zoo.registry import find_offer

    offer = find_offer(args.name)
    if offer.record is None and offer.usable is not None:
        where = "comes with the program" if offer.usable.source == "bundled" else "is a folder"
        msg = (
            f"The model {args.name} {where} ({offer.usable.folder}) and was not pulled; delete "
            "that folder by hand if you must."
        )
        raise SettingsError(msg)
    freed = remove_model(args.name)
    print(f"Removed {args.name}; {freed / 1e6:.1f} MB are free again.")
    return DONE


def push(args: argparse.Namespace, stream: TextIO) -> int:
    """Publish a model folder on the Hub."""
    from zoo.publish import publish

    done = publish(args.folder, args.repo, private=args.private, dry_run=args.dry_run)
    for file in done.files:
        print(f"{file.path:<24} {(file.size or 0) / 1e6:8.2f} MB  sha256 {file.sha256}")
    if args.dry_run:
        print(f"Nothing was sent. These {len(done.files)} files would go to {args.repo}.")
        return DONE
    print(f"Published {args.repo} at revision {done.revision}. The entry for a registry:")
    assert done.entry is not None
    print(done.entry.model_dump_json(indent=1, exclude_defaults=True))
    return DONE


def convert(args: argparse.Namespace, stream: TextIO) -> int:
    """Turn a checkpoint of the original authors into a model folder."""
    from stem_core.prediction.export import claim_output_dir
    from zoo.convert import convert_checkpoint

    out = claim_output_dir(args.out, overwrite=False)
    manifest = convert_checkpoint(
        args.checkpoint, args.genes, out, _model_facts(args), weights=args.weights, heads=args.heads
    )
    size = manifest.denoiser
    print(
        f"Converted {args.checkpoint.name} to {out}: {len(manifest.panel)} genes, depth "
        f"{size.depth}, width {size.width}, {size.heads} heads, condition "
        f"{size.condition_width}. No figure of its quality is known here."
    )
    return DONE


def _model_facts(args: argparse.Namespace) -> ModelFacts:
    """Take what a checkpoint does not say from the registry, where it names it, and the options."""
    import re
    from dataclasses import replace

    from zoo.convert import ModelFacts, facts_from_entry
    from zoo.manifest import NAME_PATTERN
    from zoo.registry import list_offers

    name = args.name or re.sub(r"[^a-z0-9]+", "-", args.checkpoint.stem.lower()).strip("-")
    if not re.fullmatch(NAME_PATTERN, name):
        msg = (
            f"'{name}' cannot be a model's name; give one of small letters, digits and hyphens "
            "with --name."
        )
        raise SettingsError(msg)
    listed = {offer.entry.name: offer.entry for offer in list_offers().offers}
    entry = listed.get(name)
    known = entry is not None and entry.convert is not None
    facts = facts_from_entry(entry) if entry is not None and known else ModelFacts(name)
    given: dict[str, Any] = {
        key: getattr(args, key)
        for key in ("title", "tissue", "organ", "species", "platform", "disease")
        if getattr(args, key) is not None
    }
    if args.encoders is not None:
        given["encoders"] = tuple(part.strip() for part in args.encoders.split(","))
    return replace(facts, **given)


def _facts(offer: Offer) -> dict[str, Any]:
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


def _encoder_words(name: str) -> str:
    from stem_core.encoders.catalogue import encoder_facts

    facts = encoder_facts(name)
    if facts is None or not facts.repo:
        return name
    return f"{facts.title} ({facts.repo}{', gated' if facts.gated else ''}; {facts.licence})"


def _licence_words(offer: Offer) -> str:
    licences = offer.entry.licences
    return f"code {licences.code}; weights {licences.weights}; data {licences.data}"


class _BytesBar:
    """Progress of a pull for a person at a terminal; silent elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None
        self._stage = ""

    def __call__(self, progress: Any) -> None:
        """Show how far the pull is."""
        if not self._stream.isatty():
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
                print(words[progress.stage], file=self._stream)
        if progress.stage == "download":
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=progress.total_bytes,
                    unit="B",
                    unit_scale=True,
                    desc="Downloading",
                    file=self._stream,
                )
            self._bar.n = progress.done_bytes
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

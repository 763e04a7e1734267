"""What `stem sections check | download` do."""

from __future__ import annotations

import argparse
from typing import TextIO

from app.exit_codes import BAD_INPUT, DONE
from app.terminal import one_line
from stem_core.errors import SectionError, StemError

__all__ = ["check", "download"]


def check(args: argparse.Namespace, stream: TextIO) -> int:
    """Check measured sections, one line each; 2 where one cannot be trained on."""
    from stem_core.training.hest import read_section
    from stem_core.training.section_checks import check_section
    from stem_core.training.section_files import section_names

    names = args.ids or section_names(args.folder)
    if not names:
        msg = f"There are no sections in {args.folder}; expected st/*.h5ad with wsis/, or */outs."
        raise SectionError(msg)
    failed = 0
    for name in names:
        try:
            facts = check_section(read_section(args.folder, name), args.pitch_um)
            print(facts.sentence(), flush=True)
        except StemError as error:
            failed += 1
            print(f"stem: {one_line(error)}", file=stream, flush=True)
    return BAD_INPUT if failed else DONE


def download(args: argparse.Namespace, stream: TextIO) -> int:
    """Fetch sections of HEST-1k, or the metadata of all."""
    from zoo.hest_download import download_metadata, download_sections

    if args.metadata or not args.ids:
        found = download_metadata(args.to, dataset=args.dataset, revision=args.revision)
        print(f"Metadata of {found:,} sections are in {args.to / 'metadata'}")
    if args.ids:
        for table in download_sections(
            args.ids, args.to, dataset=args.dataset, revision=args.revision
        ):
            print(table)
    return DONE

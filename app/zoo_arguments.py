"""The arguments of `stem zoo | train | sections`: what is around the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app import section_commands, training_commands, zoo_commands
from app.argument_kinds import add_command, device, number, worker_count

__all__ = ["add_section_actions", "add_train", "add_zoo_actions"]


def add_zoo_actions(actions: Any) -> None:
    """Add `stem zoo …`."""
    listing = add_command(
        actions, "list", zoo_commands.list_all, "list the models with their held-out figures"
    )
    listing.add_argument("--json", action="store_true", help="for programs")
    info = add_command(actions, "info", zoo_commands.info, "show everything known of a model")
    info.add_argument("name", metavar="NAME")
    info.add_argument("--json", action="store_true", help="for programs")
    pull = add_command(
        actions, "pull", zoo_commands.pull, "fetch a model from the Hugging Face Hub"
    )
    pull.add_argument("name", metavar="NAME")
    pull.add_argument(
        "--update", action="store_true", help="take the newest revision of an unpinned model"
    )
    encoder = add_command(
        actions, "pull-encoder", zoo_commands.pull_encoder, "fetch the weights of an encoder"
    )
    encoder.add_argument("name", metavar="NAME", help="see `stem doctor --gated`")
    encoder.add_argument(
        "--update", action="store_true", help="take the newest revision, or another file"
    )
    encoder.add_argument(
        "--file", type=Path, metavar="FILE",
        help="keep a copy of its published file, fetched by other means",
    )  # fmt: skip
    verify = add_command(
        actions, "verify", zoo_commands.verify, "compare a model's files with what was recorded"
    )
    verify.add_argument("name", metavar="NAME", nargs="?", help="default: all that are here")
    remove = add_command(actions, "remove", zoo_commands.remove, "remove a model that was pulled")
    remove.add_argument("name", metavar="NAME")
    push = add_command(actions, "push", zoo_commands.push, "publish a model folder on the Hub")
    push.add_argument("folder", metavar="DIR", type=Path)
    push.add_argument("repo", metavar="ORG/NAME")
    push.add_argument("--private", action="store_true", help="for yourself and your organisation")
    push.add_argument("--dry-run", action="store_true", help="check and tell, send nothing")
    convert = add_command(
        actions, "convert", zoo_commands.convert, "turn a published checkpoint into a model folder"
    )
    convert.add_argument("checkpoint", metavar="CHECKPOINT.pt", type=Path)
    convert.add_argument(
        "--genes", required=True, type=Path, metavar="LIST.txt", help="symbols, one a line"
    )
    convert.add_argument("--out", required=True, type=Path, metavar="DIR", help="an empty folder")
    convert.add_argument(
        "--name", metavar="NAME", help="of the model; known ones bring their facts"
    )
    for fact in ("title", "tissue", "organ", "species", "platform", "disease"):
        convert.add_argument(f"--{fact}", metavar="TEXT", help="for the manifest")
    convert.add_argument(
        "--encoders", metavar="A,B", help="in order (default: the publication's, uni,conch)"
    )
    convert.add_argument(
        "--weights", choices=("auto", "ema", "model"), default="auto", help="of a training state"
    )
    convert.add_argument("--heads", type=int, metavar="N", help="attention heads, if not said")


def add_train(choices: Any) -> None:
    """Add `stem train`."""
    train = add_command(choices, "train", training_commands.train, "train a model from its recipe")
    train.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    train.add_argument("--data", type=Path, metavar="DIR", help="folder with the sections")
    train.add_argument(
        "--out", type=Path, metavar="DIR", help="the model folder (default: trained/NAME)"
    )
    train.add_argument(
        "--work", type=Path, metavar="DIR", help="for all else (default: beside it, NAME.training)"
    )
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="put over the recipe, such as training.denoiser.steps=500 (may be repeated)",
    )
    train.add_argument(
        "--check", action="store_true", help="check the recipe (and the data), train nothing"
    )
    train.add_argument("--resume", action="store_true", help="go on with a broken-off training")
    train.add_argument(
        "--device", type=device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N"
    )
    train.add_argument(
        "--processes",
        type=worker_count,
        default=1,
        metavar="N",
        help="on this machine, one per GPU",
    )


def add_section_actions(actions: Any) -> None:
    """Add `stem sections …`."""
    check = add_command(
        actions, "check", section_commands.check, "check measured sections before training on them"
    )
    check.add_argument("folder", metavar="DIR", type=Path, help="in the layout of HEST-1k")
    check.add_argument("ids", metavar="ID", nargs="*", help="default: all that are there")
    check.add_argument(
        "--pitch-um", type=number, metavar="F", help="distance between spots, if not said, µm"
    )
    download = add_command(
        actions, "download", section_commands.download, "fetch sections of HEST-1k from the Hub"
    )
    download.add_argument("ids", metavar="ID", nargs="*", help="HEST ids; none: metadata of all")
    download.add_argument("--to", required=True, type=Path, metavar="DIR")
    download.add_argument("--metadata", action="store_true", help="the metadata of all, too")
    download.add_argument("--dataset", default="MahmoodLab/hest", metavar="ORG/NAME")
    download.add_argument("--revision", metavar="R", help="default: the newest")

"""Read recipes: YAML, with single values put over it, and errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stem_core.errors import SettingsError
from stem_core.training.recipe import Recipe

__all__ = ["packaged_recipes", "parse_recipe", "read_recipe"]

_LARGEST_BYTES = 1_000_000


def packaged_recipes() -> dict[str, Path]:
    """Return the recipe files of this program by name; `compact-he` is that of the encoder."""
    folder = Path(str(files("zoo") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path
        A YAML file.
    overrides
        `a.b=c` each: the value c, in YAML, put in place of what the file says.

    Raises
    ------
    SettingsError
        The file cannot be read, is not valid YAML, or a key or value of it or of the
        overrides is wrong.
    """
    import yaml

    try:
        if path.stat().st_size > _LARGEST_BYTES:
            msg = f"The recipe {path.name} is too large to be one; name a recipe's YAML file."
            raise SettingsError(msg)
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        msg = f"The recipe {path} cannot be read ({reason}); name a recipe's YAML file."
        raise SettingsError(msg) from error
    if not isinstance(raw, dict):
        msg = f"The recipe {path.name} is not a list of keys and values; see zoo/recipes for some."
        raise SettingsError(msg)
    if "slides" in raw and "data" not in raw:
        msg = (
            f"{path.name} is the recipe of an encoder, not of a model; train it with python -m "
            f"zoo.build_encoder {path} --data DIR --out FILE."
        )
        raise SettingsError(msg)
    for override in overrides:
        _put_over(raw, override)
    return parse_recipe(raw, path.name)


def parse_recipe(raw: Mapping[str, Any], name: str) -> Recipe:
    """Check the content of a recipe; `name` is that of its file, for errors.

    Raises
    ------
    SettingsError
        A key or value is wrong.
    """
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(_sentence(error, name)) from error


def _put_over(raw: dict[str, Any], override: str) -> None:
    """Put the value of `a.b=c` in its place."""
    import yaml

    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        msg = f"--set takes key=value, such as --set training.denoiser.steps=500; '{override}' is "
        raise SettingsError(msg + "neither.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"The value of --set {override} is not valid YAML; put it in quotes."
        raise SettingsError(msg) from error
    place = raw
    for part in parts[:-1]:
        inner = place.setdefault(part, {})
        if inner is None:
            inner = place[part] = {}
        if not isinstance(inner, dict):
            msg = f"--set {override}: '{part}' is a value and has no keys below it."
            raise SettingsError(msg)
        place = inner
    place[parts[-1]] = value


def _sentence(error: ValidationError, name: str) -> str:
    """Turn the first fault into one sentence."""
    # A wrong value is reported before a missing key: the user typed it.
    first = min(error.errors(), key=lambda fault: fault["type"] == "missing")
    key = ".".join(str(part) for part in first["loc"]) or "it"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(str(first["loc"][-1]), _known_keys(), 1)
        advice = f"did you mean '{near[0]}'?" if near else "see docs/training.md for all keys."
        return f"The recipe {name} has the unknown key '{key}'; {advice}"
    if first["type"] == "missing":
        return f"The recipe {name} has no key '{key}'; see docs/training.md for what it says."
    why = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    if first["type"] == "value_error":
        where = "" if key == "it" or key in why else f" ({key})"
        return f"The recipe {name} cannot be used{where}: {why}."
    shown = repr(first["input"])
    shown = shown if len(shown) < 60 else shown[:60] + "…"
    return f"The recipe {name} has {key} = {shown}: {why[:1].lower()}{why[1:]}; correct it."


def _known_keys() -> list[str]:
    """Return the keys of all parts of a recipe."""
    found: set[str] = set()
    stack: list[Any] = [Recipe.model_json_schema()]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            found |= set(item.get("properties", {}))
            stack += item.values()
        elif isinstance(item, list):
            stack += item
    return sorted(found)

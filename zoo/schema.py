"""Write what other programs read of the zoo, and what the program's own list says of its models.

python -m zoo.schema docs            the JSON Schemas of manifest and registry
python -m zoo.schema --registry      the bundled models' entries in zoo/registry.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from stem_core.model.manifest import SCHEMA_VERSION, Manifest, read_manifest
from zoo.entries import REGISTRY_FILE, Registry, describe_files, entry_from_manifest, read_registry
from zoo.registry import BUNDLED_DIR

__all__ = ["SCHEMAS", "registry_text", "schema_text"]

SCHEMAS: dict[str, tuple[type[BaseModel], str]] = {
    "manifest.schema.json": (Manifest, f"Manifest of a model folder, version {SCHEMA_VERSION}"),
    "registry.schema.json": (Registry, "A list of models, version 1"),
}


def schema_text(name: str) -> str:
    """Return a schema, one of `SCHEMAS`, as JSON text."""
    model, title = SCHEMAS[name]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(),
        "title": title,
    }
    return json.dumps(schema, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def registry_text() -> str:
    """Return registry.json with the bundled models as they are now; the others as they stand."""
    bundled = []
    for config in sorted(BUNDLED_DIR.glob("*/config.json")):
        manifest = read_manifest(config)
        bundled.append(
            entry_from_manifest(manifest, "bundled", files=describe_files(config.parent))
        )
    others = [e for e in read_registry(REGISTRY_FILE).models if e.source != "bundled"]
    registry = Registry(schema_version=1, models=(*bundled, *others))
    plain = registry.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def main() -> None:
    """Run from the command line."""
    if sys.argv[1] == "--registry":
        REGISTRY_FILE.write_text(registry_text(), encoding="utf-8")
        return
    for name in SCHEMAS:
        (Path(sys.argv[1]) / name).write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()

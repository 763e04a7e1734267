"""Write the JSON Schema of the manifest for other programs: `python -m zoo.schema FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zoo.manifest import SCHEMA_VERSION, Manifest

__all__ = ["manifest_schema"]


def manifest_schema() -> str:
    """Return the schema of a `config.json` as JSON text."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Manifest.model_json_schema(),
        "title": f"Manifest of a model folder, version {SCHEMA_VERSION}",
    }
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(manifest_schema(), encoding="utf-8")

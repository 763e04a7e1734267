"""Make the README fit for a package index, where links into the repository lead nowhere.

`STEM_PROJECT_URL=https://… python -m build` makes them absolute; without it they become plain text.
All else stands in pyproject.toml.
"""

import os
import re
from pathlib import Path

from setuptools import setup


def readme(base: str) -> str:
    """Return README.md with its relative links made absolute, or taken out without an address."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    image, link = r"!\[([^\]]*)\]\((?!https?:)([^)]+)\)\n?", r"\[([^\]]*)\]\((?!https?:|#)([^)]+)\)"
    if not base:
        return re.sub(link, r"\1", re.sub(image, "", text))
    text = re.sub(image, rf"![\1]({base}/raw/main/\2)\n", text)
    return re.sub(link, rf"[\1]({base}/blob/main/\2)", text)


ADDRESS = os.environ.get("STEM_PROJECT_URL", "").rstrip("/")
setup(
    long_description=readme(ADDRESS),
    long_description_content_type="text/markdown",
    project_urls={"Source": ADDRESS} if ADDRESS else {},
)

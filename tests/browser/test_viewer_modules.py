"""The viewer's parts as a browser loads them, and rules that Python has as well."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Route

import app.components
from app.maps.picture_words import number_words, round_length_um
from app.maps.viewer_text import module_text

FOLDER = Path(app.components.__file__).parent
PARTS = sorted(path.stem for path in FOLDER.glob("maps_viewer*.js"))
PLACE = "http://viewer.invalid"  # answered by the test itself
TOP = re.compile(
    r"^(?:export )?(?:default )?(?:async )?(?:const|let|class|function) (\w+)", re.MULTILINE
)

pytestmark = pytest.mark.browser


@pytest.fixture
def modules(page: Page) -> Page:
    """A page beside the modules, as they lie in the folder."""

    def answer(route: Route) -> None:
        path = FOLDER / route.request.url.rsplit("/", 1)[-1]
        if path.suffix == ".js":
            route.fulfill(content_type="text/javascript", body=path.read_text(encoding="utf-8"))
        else:
            route.fulfill(content_type="text/html", body="<!doctype html>")

    page.route(f"{PLACE}/**", answer)
    page.goto(f"{PLACE}/")
    return page


@pytest.mark.parametrize("part", PARTS)
def test_every_part_imports_what_it_needs(modules: Page, part: str) -> None:
    assert modules.evaluate(f"import('{PLACE}/{part}.js').then(m => Object.keys(m).length)") > 0
    texts = {name: (FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in PARTS}
    code = re.sub(r"//.*", "", texts[part])
    imports = " ".join(re.findall(r"^import \{([^}]*)\}", code, re.MULTILINE))
    own = {*TOP.findall(code), *re.findall(r"\w+", imports)}
    for other, text in texts.items():
        for name in set(TOP.findall(text)) - own:
            # Called or made; a constant is written in capitals.
            used = re.search(rf"(?<![\w.]){name}(?:\(|\b(?<=[A-Z]))", code)
            assert not used, f"{part} uses {name} of {other}"


@pytest.mark.parametrize("name", ["maps_viewer", "maps_share"])
def test_one_text_has_each_name_once(name: str) -> None:
    names = TOP.findall(module_text(name))
    assert len(names) == len(set(names)) > 40
    assert "import " not in re.sub(r"//.*", "", module_text(name))


def test_numbers_and_lengths_are_those_of_the_pictures(modules: Page) -> None:
    random = np.random.default_rng(0)
    cases = [(0.0, 1.0), (-0.001, 1.0), (-2.665, 40.0), (12345.6, 20000.0), (1e6, 3.0), (7.25, 0.0)]
    cases += [
        (float(value), float(span))
        for value, span in zip(
            np.sign(random.normal(size=200)) * 10 ** random.uniform(-5, 6, 200),
            10 ** random.uniform(-4, 5, 200),
            strict=True,
        )
    ]
    lengths = [0.99, 1.0, 4.9, 5.0, 20.0, 999.0, math.pi * 1e4, 0.3, 0.02]
    said, round_lengths = modules.evaluate(
        f"""async ([cases, lengths]) => {{
          const words = await import('{PLACE}/maps_viewer_words.js')
          return [cases.map(([value, span]) => words.numberWords(value, span)),
            lengths.map(words.roundLength)]
        }}""",
        [cases, lengths],
    )
    assert said == [number_words(value, span) for value, span in cases]
    assert round_lengths == pytest.approx([round_length_um(um) for um in lengths])

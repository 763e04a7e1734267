"""Names of layers, strictly read."""

from __future__ import annotations

import pytest

from app.maps.layers import Layer, parse_layer
from stem_core.errors import SettingsError

PANEL = {
    gene: place
    for place, gene in enumerate(
        ("GNAS", "ERBB2", "HLA-DRB1", "MT-ND1", "AC1(2)/b.3_x", "A:B", "A", "B:C", "C7orf50")
    )
}


@pytest.mark.parametrize("kind", ["mean", "std", "q05", "q95", "measured", "error"])
@pytest.mark.parametrize("gene", PANEL)
def test_any_symbol_is_taken(kind: str, gene: str) -> None:
    assert parse_layer(f"{kind}:{gene}", PANEL) == Layer(kind, (gene,))


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("domain", Layer("domain")),
        ("difference:GNAS:ERBB2", Layer("difference", ("GNAS", "ERBB2"))),
        ("difference:A:B:GNAS", Layer("difference", ("A:B", "GNAS"))),
        ("difference:A:B:C", Layer("difference", ("A", "B:C"))),
        ("score:GNAS,X1,A:B,GNAS", Layer("score", ("GNAS", "A:B"), missing=("X1",))),
    ],
)
def test_layers_of_more_or_fewer_genes(text: str, layer: Layer) -> None:
    read = parse_layer(text, PANEL)
    assert (read, read.missing) == (layer, layer.missing)
    assert parse_layer(str(read), PANEL) == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no layer ''"),
        ("mean", "no layer 'mean'"),
        ("GNAS", "no layer 'GNAS'"),
        ("Mean:GNAS", "no layer 'Mean:GNAS'"),
        ("ratio:GNAS:ERBB2", "no layer 'ratio"),
        ("domain:GNAS", "no layer 'domain:GNAS'"),
        ("../../etc:passwd", "no layer"),
        ("mean:", "names no gene"),
        ("mean:GNAS ", "no gene 'GNAS '; did you mean GNAS?"),
        ("mean:gnas", "no gene 'gnas'; did you mean GNAS?"),
        ("mean:ERBB3", "no gene 'ERBB3'; did you mean ERBB2?"),
        ("mean:C7ORF50", "did you mean C7orf50?"),
        ("std:QQQQ", "no gene 'QQQQ'; choose a gene of its panel."),
        ("mean:" + "A" * 100_000, "AAA…'; choose a gene of its panel."),
        ("difference:GNAS", "does not name two genes"),
        ("difference:GNAS:ERBB", "no gene 'ERBB'; did you mean ERBB2?"),
        ("difference:GNAS:ERBB2:A", "does not name two genes"),
        ("difference::", "does not name two genes|no gene"),
        ("score:", "entry without a gene"),
        ("score:GNAS,,A", "entry without a gene"),
        ("score:X1", r"None of the 1 genes of the set \('X1'\)"),
        ("score:X1,X2", r"None of the 2 genes of the set \('X1', …\) is among the 9 genes"),
        ("score:" + ",".join(f"G{i}" for i in range(50_000)), "has 50,000 genes .* up to 2,000"),
    ],
)
def test_what_is_no_layer_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        parse_layer(text, PANEL)
    assert len(str(caught.value)) < 250
    assert str(caught.value)[-1] in ".?"


def test_at_most_three_genes_are_proposed() -> None:
    with pytest.raises(SettingsError, match=r"did you mean KRT1\d or KRT1\d or KRT1\d\?$"):
        parse_layer("mean:KRT1X", {f"KRT1{i}": i for i in range(9)})

import time

import pytest

from stem_core.analysis.gene_sets import match_genes, read_gene_list, read_gmt, search_genes
from stem_core.errors import SettingsError

SYMBOLS = ("GNAS", "ERBB2", "ERBB3", "KRT18", "KRT8", "Ttr", "C1orf56")
ENSEMBL = ("ENSG00000087460", "ENSG00000141736.14", "", "", "", "ENSMUSG00000061808", "")


def test_pasted_lists_take_any_separator_and_drop_repeats() -> None:
    text = "\ufeffGNAS, erbb2;KRT18\tKRT8\n\n GNAS 'Ttr' gnas,;"
    assert read_gene_list(text) == ("GNAS", "erbb2", "KRT18", "KRT8", "Ttr")


@pytest.mark.parametrize("text", ["", " ,; \n", '""'])
def test_an_empty_list_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="holds no gene"):
        read_gene_list(text)


def test_a_list_of_too_many_genes_is_refused() -> None:
    assert len(read_gene_list(" ".join(f"G{n}" for n in range(50_000)))) == 50_000
    with pytest.raises(SettingsError, match="50,001 genes"):
        read_gene_list(" ".join(f"G{n}" for n in range(50_001)))


def test_gmt_is_read_with_windows_lines_and_empty_cells() -> None:
    sets = read_gmt("HER2\thttps://example.org\tERBB2\tGRB7\t\r\n\r\nKRT\t\tKRT8\tKRT18\tkrt8\r\n")
    assert [(one.name, one.genes, one.description) for one in sets] == [
        ("HER2", ("ERBB2", "GRB7"), "https://example.org"),
        ("KRT", ("KRT8", "KRT18"), ""),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A\tx\tG1\nB\tx\n", "line 2 .*'B x'"),
        ("A\tx\tG1\nB,x,G2\n", "line 2"),
        ("A\tx\tG1\n\t\tG2\n", "line 2"),
        ("A\tx\tG1\nB\tx\t\t\n", "line 2"),
        ("A\tx\tG1\n\nA\tx\tG1\n", "'A' again in line 3"),
        ("\n", "holds no gene set"),
        ("A\tx\t" + "\t".join(f"G{n}" for n in range(50_001)), "50,001 genes in line 1"),
        ("".join(f"S{n}\t\tG\n" for n in range(10_001)), "more than 10,000"),
    ],
)
def test_a_broken_gmt_names_its_line(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        read_gmt(text, "sets.gmt")
    assert str(caught.value).startswith("sets.gmt")
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_lists_match_by_symbol_and_by_id_with_or_without_version() -> None:
    genes = ("gnas", "ENSG00000141736", "ENSMUSG00000061808.5", "TTR", "NOPE", "ENSG00000087460")
    match = match_genes(genes, SYMBOLS, ENSEMBL)
    assert match.symbols == ("GNAS", "ERBB2", "Ttr") and match.columns == (0, 1, 5)
    assert match.missing == ("NOPE",)
    assert match.sentence() == "3 of 4 genes are in the panel; not in it: NOPE."


def test_the_exact_case_goes_first() -> None:
    assert match_genes(("abc", "Abc"), ("ABC", "Abc", "abc"), ("", "", "")).columns == (2, 1)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("krt8", ["KRT8", "KRT18"]),  # exact, then close
        ("ERBB", ["ERBB2", "ERBB3"]),
        ("rbb3", ["ERBB3", "ERBB2"]),  # contains, then close
        ("ERRB2", ["ERBB2", "ERBB3"]),  # misspelt
        ("ENSG000000874", ["GNAS"]),
        ("ENSG00000141736.2", ["ERBB2"]),
        ("zzzz", []),
    ],
)
def test_search_ranks_exact_prefix_contained_close(query: str, expected: list[str]) -> None:
    assert [SYMBOLS[c] for c in search_genes(query, SYMBOLS, ENSEMBL)][: len(expected)] == expected
    if not expected:
        assert search_genes(query, SYMBOLS, ENSEMBL) == []


def test_search_keeps_to_its_limit_and_is_quick() -> None:
    symbols = [f"GENE{n}" for n in range(20_000)]
    start = time.perf_counter()
    assert search_genes("GENE1", symbols, [""] * 20_000, limit=3)[0] == 1
    assert search_genes("GNEE77", symbols, [""] * 20_000, limit=3)
    assert time.perf_counter() - start < 5
    assert len(search_genes("", SYMBOLS, ENSEMBL, limit=2)) == 2

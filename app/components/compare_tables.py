"""What two runs say of each gene: the chosen one in figures, all in a table, its spots plotted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.components.wording import count, plain
from app.maps.layers import Layer
from app.maps.pairs import PairValues
from stem_core.analysis.agreement import pcc_against
from stem_core.constants import UNITS

__all__ = ["show_agreement", "show_gene", "show_measured_pcc", "show_ranking", "show_spots"]

_HELP = {
    "PCC": "Pearson correlation over the spots: 1 where one map is in proportion to the other. "
    "In brackets the 95 % interval, which counts independent spots, fewer than there are.",
    "CCC": "Concordance correlation coefficient (Lin 1989): 1 only where both give equal values. "
    "In brackets the 95 % interval.",
    "A − B": "Mean over the spots, log2(1 + count).",
    "Far apart": "Share of spots whose means are more than 2 joint spreads apart; the joint spread "
    "is √(spread of A² + spread of B²).",
    "Bands overlap": "Share of spots where the 90 % bands of the two overlap.",
}


def show_gene(table: pd.DataFrame, gene: str) -> None:
    """Show how far the two agree on one gene."""
    row: dict[str, float] = {str(name): float(table[name][gene]) for name in table}
    shown = {
        "PCC": _with_interval(row, "pcc"),
        "CCC": _with_interval(row, "ccc"),
        "A − B": f"{round(row['mean_difference'], 2) + 0.0:+.2f}".replace("-", "−"),
        "Far apart": _share(row["far"]),
        "Bands overlap": _share(row["overlap"]),
    }
    for place, (label, value) in zip(st.columns([3, 3, 2, 2, 2]), shown.items(), strict=True):
        place.metric(label, value, help=_HELP[label])


def show_agreement(table: pd.DataFrame, gene_file: str) -> None:
    """Show the table of all shared genes and offer it as CSV."""
    ccc = table["ccc"].dropna()
    st.subheader("Agreement gene by gene", divider="gray")
    if len(ccc):
        st.markdown(
            f"**CCC** over {count(len(ccc), 'gene')}: median {ccc.median():.2f}, from "
            f"{_minus(ccc.min())} ({plain(str(ccc.idxmin()))}) to {_minus(ccc.max())} "
            f"({plain(str(ccc.idxmax()))}). Agreement is not accuracy: models trained on the same "
            "sections share their mistakes."
        )
    number = st.column_config.NumberColumn
    percent = table.assign(
        far=100 * table["far"],
        overlap=100 * table["overlap"],
        mean_difference=table["mean_difference"].round(2) + 0.0,  # no "−0.00"
    )
    st.dataframe(
        percent.reset_index(), hide_index=True, height=300,
        alt="Agreement of the two runs, one row for each gene",
        column_config={
            "gene": "Gene",
            "pcc": number("PCC", format="%.2f"),
            "pcc_low": number("95 % from", format="%.2f"),
            "pcc_high": number("95 % to", format="%.2f"),
            "ccc": number("CCC", format="%.2f", help=_HELP["CCC"]),
            "ccc_low": number("CCC 95 % from", format="%.2f"),
            "ccc_high": number("CCC 95 % to", format="%.2f"),
            "n_effective": number("Independent spots", format="%.0f"),
            "mean_difference": number(f"A − B, {UNITS}", format="%.2f"),
            "median_distance": number(
                "Median distance, joint spreads", format="%.2f",
                help="Half of the spots are at most so many joint spreads apart.",
            ),
            "far": number("Far apart", format="%.1f %%", help=_HELP["Far apart"]),
            "overlap": number("Bands overlap", format="%.0f %%", help=_HELP["Bands overlap"]),
        },
    )  # fmt: skip
    st.download_button(
        "This table (CSV)", table.to_csv(), file_name=gene_file, mime="text/csv",
        icon=":material/download:", key="agreement_csv",
    )  # fmt: skip


def show_spots(pair: PairValues, gene: str, ids: Sequence[str]) -> None:
    """Plot the spots of a gene, A against B, and offer what is plotted as CSV."""
    a, b = pair.layer(Layer("mean", (gene,), run="a")), pair.layer(Layer("mean", (gene,), run="b"))
    there = pair.at >= 0
    figure = go.Figure()
    figure.add_scattergl(
        x=a[there], y=b[there], mode="markers", marker={"size": 5, "opacity": 0.6},
        hovertemplate="A %{x:.2f}<br>B %{y:.2f}<extra></extra>",
    )  # fmt: skip
    ends = [float(min(a[there].min(), b[there].min())), float(max(a[there].max(), b[there].max()))]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"dash": "dot", "color": "gray"}, hoverinfo="skip"
    )
    figure.update_layout(
        title=f"{gene}, one point a spot", height=380, showlegend=False,
        xaxis_title=f"run A, {UNITS}", yaxis_title=f"run B, {UNITS}",
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
    )  # fmt: skip
    st.plotly_chart(figure, key="compare_scatter", alt=f"{gene} in run A against run B")
    x_px, y_px = pair.positions().T
    spots = pd.DataFrame(
        {
            "spot": np.asarray(ids, dtype=object), "x_px": x_px, "y_px": y_px,
            "a_mean": a, "a_std": pair.layer(Layer("std", (gene,), run="a")),
            "b_mean": b, "b_std": pair.layer(Layer("std", (gene,), run="b")),
            "joint_spreads_apart": pair.layer(Layer.of("apart", gene)),
        }
    )[there]  # fmt: skip
    st.download_button(
        "These spots (CSV)", lambda: spots.to_csv(index=False), file_name="spots-a-and-b.csv",
        mime="text/csv", icon=":material/download:", key="spots_csv",
    )  # fmt: skip


def show_ranking(table: pd.DataFrame, gene: str) -> None:
    """Plot the concordance of every gene with its interval, the chosen one marked."""
    ranked = table.dropna(subset=["ccc"])
    place = list(range(1, len(ranked) + 1))
    figure = go.Figure()
    figure.add_scatter(
        x=place, y=ranked["ccc"], mode="lines", text=list(ranked.index),
        hovertemplate="%{text}: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    for end, fill in (("ccc_low", None), ("ccc_high", "tonexty")):
        figure.add_scatter(
            x=place, y=ranked[end], mode="lines", line={"width": 0}, fill=fill, hoverinfo="skip",
            fillcolor="rgba(128, 128, 128, 0.25)",
        )  # fmt: skip
    if gene in ranked.index:
        figure.add_scatter(
            x=[list(ranked.index).index(gene) + 1], y=[ranked["ccc"][gene]], mode="markers+text",
            text=[gene], textposition="bottom center", hoverinfo="skip",
            marker={"size": 9, "color": "#c2185b"},
        )  # fmt: skip
    figure.update_layout(
        title="Every gene, with its 95 % interval", height=380, showlegend=False,
        xaxis_title="genes, the most alike first", yaxis_title="CCC",
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
    )  # fmt: skip
    st.plotly_chart(figure, key="ranking", alt="Concordance of every gene, sorted")


def show_measured_pcc(pair: PairValues, genes: Sequence[str]) -> None:
    """Show how well A, B and the baseline go with the measured section, where one was given."""
    measured = _measured_of(pair)
    if measured is None:
        return
    names = {"a": pair.one.prediction.mean, "b": pair.at_spots(pair.other.prediction.mean)}
    if pair.one.has_baseline:
        names["baseline"] = pair.one.baseline()
    places = [pair.one.symbols.index(gene) for gene in genes]
    others = [pair.other.symbols.index(gene) for gene in genes]
    maps = {name: values[:, others if name == "b" else places] for name, values in names.items()}
    rows = (pair.at >= 0) & np.isfinite(measured).any(1)
    x_um, y_um = pair.positions()[rows].astype(np.float64).T * pair.one.mpp
    table = pcc_against(
        measured[rows][:, places], {name: values[rows] for name, values in maps.items()},
        x_um, y_um, genes,
    )  # fmt: skip
    st.subheader("Which is nearer to what was measured", divider="gray")
    words = {"a": "run A", "b": "run B", "baseline": "the ridge baseline of A"}
    means = [f"{words[name]} {_minus(table[f'{name}_pcc'].mean())}" for name in maps]
    st.markdown(
        f"Mean **PCC** with the measured section over {count(len(table), 'gene')} and "
        f"{count(int(rows.sum()), 'spot')} that all have: {', '.join(means)}."
    )
    number = st.column_config.NumberColumn
    columns = {"gene": st.column_config.Column("Gene")}
    for name in maps:
        said = words[name].removeprefix("the ").capitalize()
        columns[f"{name}_pcc"] = number(f"{said}: PCC", format="%.2f")
        columns[f"{name}_pcc_low"] = number("95 % from", format="%.2f")
        columns[f"{name}_pcc_high"] = number("95 % to", format="%.2f")
    st.dataframe(
        table.reset_index(), hide_index=True, height=280, column_config=columns,
        alt="Correlation of both runs with the measured section, one row for each gene",
    )  # fmt: skip
    st.download_button(
        "This table (CSV)", table.to_csv(), file_name="a-and-b-against-measured.csv",
        mime="text/csv", icon=":material/download:", key="measured_csv",
    )  # fmt: skip


def _measured_of(pair: PairValues) -> np.ndarray | None:
    """Return what was measured at A's spots, in A's genes (N, G): given to A, else to B."""
    measured = pair.one.measured()
    if measured is not None or (theirs := pair.other.measured()) is None:
        return measured
    there = pair.at_spots(theirs)
    out = np.full((len(pair.at), len(pair.one.symbols)), np.nan, dtype=np.float32)
    places = {symbol: place for place, symbol in enumerate(pair.other.symbols)}
    for place, symbol in enumerate(pair.one.symbols):
        if symbol in places:
            out[:, place] = there[:, places[symbol]]
    return out


def _with_interval(row: dict[str, float], name: str) -> str:
    if not np.isfinite(row[name]):
        return "–"
    low, high = (_minus(row[f"{name}_{end}"]) for end in ("low", "high"))
    return f"{_minus(row[name])} ({low} to {high})"


def _minus(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _share(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{100 * value:.0f} %" if not 0 < value < 0.1 else f"{100 * value:.1f} %"

"""Grey out the spots whose value is little to be trusted; what is chosen is kept in the address.

Two reasons can be given. The domain distance of a spot: how unlike the training tissue it looks.
The spread of a map's genes at the spot, in log2(1 + count), the unit in which values are shown:
above 1 the draws differ by a factor of about two. A share of the spots would grey as many spots of
a map that is sure as of one that is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from app.components.wording import count, plain
from app.maps.layers import Layer
from app.maps.panels import Mute
from app.maps.values import MapValues
from stem_core.constants import UNITS

__all__ = ["Limits", "greyed_words", "mutes_of", "pick_limits"]

_PARAMETER = "grey"
_DOMAIN = 1.0  # the edge of training
_SPREAD = 1.0  # a factor of two


@dataclass(frozen=True)
class Limits:
    """Above what spots are greyed; None where that does not count.

    `domain` in edges of training, `spread` in log2(1 + count).
    """

    domain: float | None = None
    spread: float | None = None


def pick_limits(run_id: str, *, has_domain: bool) -> Limits:
    """Show what spots are greyed by, as the address has it, and write what is chosen there."""
    asked = _of_address()
    with st.popover(
        "Grey out", icon=":material/blur_on:", type="primary" if asked != Limits() else "secondary"
    ):
        st.caption("Spots whose value is little to be trusted turn grey; hovering says why.")
        domain = None
        if has_domain:
            domain = _limit(
                run_id, "domain", asked.domain, "Tissue unlike the training tissue",
                "Domain distance above", (0.2, 3.0, _DOMAIN),
                "1 is the edge: as unusual as the most unusual 5 % of the training spots.",
            )  # fmt: skip
        spread = _limit(
            run_id, "spread", asked.spread, "Draws that differ",
            f"Spread above, {UNITS}", (0.1, 3.0, _SPREAD),
            "Standard deviation of the draws of a map's gene at the spot: at 1 they differ by a "
            "factor of about two.",
        )  # fmt: skip
    chosen = Limits(domain, spread)
    parts = [f"{name}:{limit:g}" for name, limit in vars(chosen).items() if limit is not None]
    if parts:
        st.query_params[_PARAMETER] = ",".join(parts)
    else:
        st.query_params.pop(_PARAMETER, None)
    return chosen


def mutes_of(values: MapValues, layer: Layer, limits: Limits) -> tuple[Mute, ...]:
    """Return what greys out spots of a map; a score has no spread, and is not greyed by one."""
    found = []
    if limits.domain is not None and values.has_domain:
        found.append(Mute(Layer("domain"), limits.domain, "domain distance", "× edge of training"))
    if limits.spread is not None and layer.kind != "score":
        found += [
            Mute(Layer.of("std", gene), limits.spread, f"spread of {gene}", UNITS)
            for gene in layer.genes
        ]
    return tuple(found)


def greyed_words(values: MapValues, layers: list[Layer], limits: Limits) -> list[str]:
    """Say of each map how many of its spots are greyed, and why; as Markdown, each once."""
    said: dict[str, None] = {}
    for layer in layers:
        mutes = mutes_of(values, layer, limits)
        if not mutes:
            continue
        grey = np.zeros(len(values.positions()), bool)
        for mute in mutes:
            grey |= values.layer(mute.layer) > np.float32(mute.above)
        alone = all(mute.layer.kind == "domain" for mute in mutes)
        reasons = " or ".join(f"{mute.words} above {mute.above:g} {mute.unit}" for mute in mutes)
        title = "" if alone else f"{plain(layer.title())}: "
        share = f"{int(grey.sum())} of {count(len(grey), 'spot')}"
        said[f"{title}{share} greyed: {plain(reasons)}"] = None
    return list(said)


def _limit(
    run_id: str, name: str, asked: float | None, what: str, label: str,
    scale: tuple[float, float, float], help_text: str,
) -> float | None:  # fmt: skip
    low, high, usual = scale
    on = st.toggle(what, value=asked is not None, key=f"grey_{name}_{run_id}")
    start = float(min(high, max(low, usual if asked is None else asked)))
    limit = st.slider(
        label, low, high, start, step=0.05, disabled=not on, help=help_text,
        key=f"grey_above_{name}_{run_id}",
    )  # fmt: skip
    return float(limit) if on else None


def _of_address() -> Limits:
    """Return what the address names; parts that are not numbers above 0 do not count."""
    found: dict[str, float] = {}
    for part in st.query_params.get(_PARAMETER, "").split(","):
        name, _, text = part.partition(":")
        try:
            limit = float(text)
        except ValueError:
            continue
        if name in ("domain", "spread") and np.isfinite(limit) and limit > 0:
            found[name] = limit
    return Limits(**found)

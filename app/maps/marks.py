"""What a map says of its own trust: a badge beside its title, and spots that are greyed out."""

from __future__ import annotations

from dataclasses import dataclass

from app.maps.layers import Layer

__all__ = ["Badge", "Mute"]


@dataclass(frozen=True)
class Badge:
    """How far a map can be trusted.

    Parameters
    ----------
    level
        `good`, `fair`, `weak` or `unknown`.
    words
        Beside the title; they say the level, too, since a colour is not for all.
    more
        Told on hover or focus, a paragraph each.
    """

    level: str
    words: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mute:
    """Grey out the spots at which a layer is above a threshold.

    Parameters
    ----------
    layer
        The values.
    above
        In their unit.
    words, unit
        What they are, for the tooltip of a spot that is grey.
    """

    layer: Layer
    above: float
    words: str
    unit: str = ""

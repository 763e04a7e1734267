"""The encoders there are, as their makers publish them: where, how wide, under which terms.

Facts only, so that asking costs no import; nothing here loads weights. A revision that cannot be
known here is `unpinned`: the first pull records what it found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CATALOGUE",
    "EncoderFacts",
    "InputRule",
    "ResizeStep",
    "VitShape",
    "encoder_facts",
]

_MAHMOOD = "CC BY-NC-ND 4.0, no commercial use, no redistribution, personal registration"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"


@dataclass(frozen=True)
class ResizeStep:
    """Resample a patch to `px` × `px`; `filter` is one of Pillow's."""

    px: int
    filter: Literal["lanczos", "bicubic", "bilinear"]


@dataclass(frozen=True)
class InputRule:
    """What a patch goes through before the network.

    Attributes
    ----------
    px
        Side of what the network sees.
    resize
        Steps, one after the other; a patch that already has the size of a step is left alone.
    mean, std
        Of the normalisation, for red, green and blue in [0, 1].
    crop
        Whether the last step gives more than `px` pixels, of which the middle is taken.
    """

    px: int
    resize: tuple[ResizeStep, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: bool = False


@dataclass(frozen=True)
class VitShape:
    """A vision transformer's size.

    Attributes
    ----------
    width, depth, heads
        Of the tokens, in blocks, and of the attention.
    patch_px
        Side of the square that becomes a token.
    hidden
        Rows of the first matrix of a block's MLP; twice what the second takes if `gated_mlp`.
    gated_mlp
        SwiGLU (Shazeer 2020) instead of GELU.
    layer_scale
        Whether blocks scale what they add (Touvron et al. 2021).
    registers
        Extra tokens (Darcet et al. 2024).
    prefix_positions
        Whether class token and registers have positions too.
    table_px
        Image sides that the table of positions may be made for, besides the input's own; such a
        table is resampled.
    """

    width: int
    depth: int
    heads: int
    patch_px: int
    hidden: int
    gated_mlp: bool = False
    layer_scale: bool = True
    registers: int = 0
    prefix_positions: bool = True
    table_px: tuple[int, ...] = ()


@dataclass(frozen=True)
class EncoderFacts:
    """An encoder as published.

    Attributes
    ----------
    name, title
        By which manifests and people refer to it.
    repo
        On the Hub; empty for the encoder that comes with the program.
    width
        Values per patch.
    licence
        Of the weights, in words.
    gated
        Whether the Hub asks for the owner's consent before it gives the weights.
    files
        Names of the weights in the repository; the first that is there is taken.
    shape, input
        Of the network, and what it takes; None for the encoder that comes with the program.
    layout
        How the weights' names are chosen: by `timm`, by transformers' `dinov2`, or by `conch`.
    pooling
        What the embedding is: the class token, it and the mean of the patch tokens (registers left
        out), or CONCH's attentional pooling of all tokens.
    precision
        For the matrix products on a GPU, as published, or as public loaders have it.
    revision
        40 hexadecimal digits, or `unpinned`.
    """

    name: str
    title: str
    repo: str
    width: int
    licence: str
    gated: bool
    files: tuple[str, ...] = ()
    shape: VitShape | None = None
    input: InputRule | None = None
    layout: Literal["timm", "dinov2", "conch"] = "timm"
    pooling: Literal["cls", "cls+mean", "attention"] = "cls"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    revision: str = "unpinned"


def _resized(
    filter_: Literal["lanczos", "bicubic", "bilinear"],
    scaling: tuple[tuple[float, float, float], tuple[float, float, float]],
) -> InputRule:
    return InputRule(224, (ResizeStep(224, filter_),), *scaling)


_ALL = (
    EncoderFacts("compact-he", "Compact H&E encoder", "", 141, "MIT", gated=False),
    # Network and normalisation: the repository's card. Lanczos: Stem (Zhu et al. 2025).
    # Precision: that of public loaders (HEST, TRIDENT); the card names none.
    EncoderFacts(
        "uni", "UNI", "MahmoodLab/UNI", 1024, _MAHMOOD, gated=True,
        files=(_PICKLED, _SAFE),
        shape=VitShape(1024, 24, 16, 16, hidden=4096),
        input=_resized("lanczos", _IMAGENET), precision="fp16",
    ),
    # Network and normalisation: the authors' package. The two steps of resizing: Stem, then CONCH.
    EncoderFacts(
        "conch", "CONCH", "MahmoodLab/conch", 512, _MAHMOOD, gated=True,
        files=(_PICKLED,),
        shape=VitShape(768, 12, 12, 16, hidden=3072, layer_scale=False),
        input=InputRule(448, (ResizeStep(256, "lanczos"), ResizeStep(448, "bicubic")), *_CLIP),
        layout="conch", pooling="attention",
    ),
    # The repository's card and config.json (interpolation bilinear).
    EncoderFacts(
        "uni2-h", "UNI2-h", "MahmoodLab/UNI2-h", 1536, _MAHMOOD, gated=True,
        files=(_PICKLED, _SAFE),
        shape=VitShape(
            1536, 24, 24, 14, hidden=8192, gated_mlp=True, registers=8, prefix_positions=False
        ),
        input=_resized("bilinear", _IMAGENET), precision="bf16",
    ),
    # The repository's card, which takes 224 px at 0.5 µm/px as they are; timm's
    # vit_giant_patch14_reg4_dinov2. Other sizes are resampled (bicubic) by our choice.
    EncoderFacts(
        "h-optimus-0", "H-optimus-0", "bioptimus/H-optimus-0", 1536, "Apache-2.0", gated=True,
        files=(_SAFE, _PICKLED),
        shape=VitShape(
            1536, 40, 24, 14, hidden=8192, gated_mlp=True, registers=4, prefix_positions=False
        ),
        input=_resized("bicubic", _BIOPTIMUS), precision="fp16",
    ),
    # The repository's card and config.json.
    EncoderFacts(
        "virchow2", "Virchow2", "paige-ai/Virchow2", 2560, "CC BY-NC-ND 4.0, no commercial use",
        gated=True,
        files=(_SAFE, _PICKLED),
        shape=VitShape(1280, 32, 16, 14, hidden=6832, gated_mlp=True, registers=4),
        input=_resized("bicubic", _IMAGENET), pooling="cls+mean", precision="fp16",
    ),
    # The repository's card (256 px bicubic, of which the middle 224) and config.json.
    EncoderFacts(
        "prov-gigapath", "Prov-GigaPath", "prov-gigapath/prov-gigapath", 1536,
        "tagged Apache-2.0, but its form says research only", gated=True,
        files=(_PICKLED, _SAFE),
        shape=VitShape(1536, 40, 24, 16, hidden=8192, gated_mlp=True),
        input=InputRule(224, (ResizeStep(256, "bicubic"),), *_IMAGENET, crop=True),
        precision="fp16",
    ),
    # The repository's card: DINOv2's ViT-g in transformers' names. For which image side its table
    # of positions was saved is not known here.
    EncoderFacts(
        "midnight-12k", "Midnight-12k", "kaiko-ai/midnight", 3072, "MIT", gated=False,
        files=(_SAFE,),
        shape=VitShape(1536, 40, 24, 14, hidden=8192, gated_mlp=True, table_px=(518,)),
        input=_resized("bilinear", _HALF),
        layout="dinov2", pooling="cls+mean", precision="fp16",
    ),
    # The repository's card and preprocessor_config.json: ViT-L/16 in transformers' names.
    EncoderFacts(
        "phikon-v2", "Phikon-v2", "owkin/phikon-v2", 1024, "Owkin non-commercial licence",
        gated=False,
        files=(_SAFE,),
        shape=VitShape(1024, 24, 16, 16, hidden=4096, table_px=(518,)),
        input=_resized("bicubic", _IMAGENET), layout="dinov2",
    ),
)  # fmt: skip
CATALOGUE: dict[str, EncoderFacts] = {facts.name: facts for facts in _ALL}


def encoder_facts(name: str) -> EncoderFacts | None:
    """Return what is known of an encoder; None for one that is not in the catalogue."""
    return CATALOGUE.get(name)

"""Errors a user can act on.

Every error names what happened to which file or value, why, and what to do next, in one sentence
that a page or the command line can show as it is.

    StemError
    ├── SlideError (ValueError)
    │   ├── SlideOpenError        not an image, truncated, unsupported, too large to decode
    │   ├── SlideColourError      greyscale, 16-bit, fluorescence: not a brightfield H&E image
    │   ├── MppError              microns per pixel missing, out of range or contradictory
    │   └── NoTissueError         nothing on the image looks like tissue
    ├── SpotsError (ValueError)   a spots file with wrong columns, spots outside the image
    ├── ModelError (ValueError)
    │   ├── UnknownModelError (KeyError)
    │   ├── ModelFileError        a model folder that is incomplete, damaged or inconsistent
    │   │   └── HashError         a file is not the one that was recorded
    │   ├── EncoderMissingError   the model's encoder is not on this machine
    │   ├── RegistryError         a list of models that cannot be read
    │   └── HubError              the Hub did not give what was asked of it
    │       ├── HubAccessError    gated or private: no token, or one that was not let in
    │       ├── HubMissingError   no such repository, revision or file
    │       └── HubOfflineError   not in the cache, and no network or none allowed
    ├── SettingsError (ValueError)  a setting out of range or a combination that makes no sense
    ├── OutputError (OSError)     an output folder that cannot be written or is not empty
    ├── SectionError (ValueError)  a measured section that cannot be trained on
    ├── TrainingError (RuntimeError)  a training that cannot go on
    ├── EvaluationError (ValueError)  prediction and truth do not fit together
    ├── JobError (LookupError)    an unknown, malformed or deleted job id
    └── Cancelled                 the user stopped the work
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "EncoderMissingError",
    "EvaluationError",
    "HashError",
    "HubAccessError",
    "HubError",
    "HubMissingError",
    "HubOfflineError",
    "JobError",
    "ModelError",
    "ModelFileError",
    "MppError",
    "NoTissueError",
    "OutputError",
    "RegistryError",
    "SectionError",
    "SettingsError",
    "SlideColourError",
    "SlideError",
    "SlideOpenError",
    "SpotsError",
    "StemError",
    "TrainingError",
    "UnknownModelError",
    "missing_extra",
]


class StemError(Exception):
    """Base of all errors that carry a sentence for the user."""

    def __str__(self) -> str:
        """Return the sentence (KeyError would print its repr)."""
        return str(self.args[0]) if self.args else self.__class__.__name__


class SlideError(StemError, ValueError):
    """Something is wrong with the slide."""


class SlideOpenError(SlideError):
    """The file is not an image that can be read, is truncated, or is too large to decode."""


class SlideColourError(SlideError):
    """The image is not 8-bit RGB brightfield (greyscale, 16-bit, fluorescence)."""


class MppError(SlideError):
    """Microns per pixel are missing, out of range, or contradict other evidence."""


class NoTissueError(SlideError):
    """No tissue was found on the slide."""


class SpotsError(StemError, ValueError):
    """A spots file cannot be used: wrong columns, no rows, or positions outside the image."""


class ModelError(StemError, ValueError):
    """Something is wrong with a model."""


class UnknownModelError(ModelError, KeyError):
    """No model of this name is known."""


class ModelFileError(ModelError):
    """A model folder is incomplete, damaged or inconsistent."""


class HashError(ModelFileError):
    """A file's sha256 is not the one that was recorded for it."""


class EncoderMissingError(ModelError):
    """The encoder that makes a model's condition is not on this machine."""


class RegistryError(ModelError):
    """A list of models cannot be read or says what cannot be."""


class HubError(ModelError):
    """The Hub, or the way there, did not give what was asked of it."""


class HubAccessError(HubError):
    """The repository is gated or private, and the token (or its absence) opens nothing."""


class HubMissingError(HubError):
    """The Hub has no such repository, revision or file."""


class HubOfflineError(HubError):
    """The files are not in the cache, and there is no network or none is allowed."""


class SettingsError(StemError, ValueError):
    """A setting is out of range or does not go with another."""


class OutputError(StemError, OSError):
    """The output folder cannot be written, or holds files that would be overwritten."""


class SectionError(StemError, ValueError):
    """A measured section is incomplete, or is not what training needs: raw counts on its image."""


class TrainingError(StemError, RuntimeError):
    """A training cannot go on: another of its processes ended, or its loss is not a number."""


class EvaluationError(StemError, ValueError):
    """Prediction and truth have no spots or genes in common, or lack what is needed."""


class JobError(StemError, LookupError):
    """A job id is unknown, malformed or deleted."""


class Cancelled(StemError):
    """The user stopped the work."""


def missing_extra(purpose: str, packages: str, extra: str) -> str:
    """Return the sentence for optional packages that are not installed.

    Parameters
    ----------
    purpose
        What needs the packages, as the subject of a sentence.
    packages
        Names of the packages that are missing, such as "scanpy" or "scanpy and pyyaml".
    extra
        Extra of this program that installs them, a name in `pyproject.toml`.
    """
    return (
        f"{purpose} needs {packages}, not installed here. "
        f'Run pip install "stem-in-a-browser[{extra}]".'
    )

"""The one family of exceptions; each says how a command ends and how a server answers.

A message names the item, the value found and the remedy; it is written for the person who gave the input.
"""

from __future__ import annotations


class MelascopeError(Exception):
    """Something the user can understand and mend.

    Parameters
    ----------
    message
        What is wrong: the item and the value found, one sentence.
    remedy
        What to do about it, one sentence.
    """

    code = "error"  #: stable, machine-readable; part of the API
    exit_status = 1  #: of a command
    http_status = 500  #: of a request

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class UsageError(MelascopeError):
    """The command, option or request itself is off."""

    code = "usage"
    exit_status = 2
    http_status = 400


class MissingExtraError(MelascopeError):
    """The command needs packages that this installation left out."""

    code = "missing-extra"
    exit_status = 2
    http_status = 501


# --- images -----------------------------------------------------------------------------------------------


class ImageError(MelascopeError):
    """An image that cannot be assessed. `code` tells the finding."""

    code = "image"
    exit_status = 3
    http_status = 422


class UnreadablePathError(ImageError):
    """The file is absent, a folder, or not ours to read."""

    code = "image-unreadable-path"
    http_status = 404


class EmptyImageError(ImageError):
    code = "image-empty"


class NotAnImageError(ImageError):
    """The bytes are of no image format that is read here."""

    code = "image-not-an-image"
    http_status = 415


class TruncatedImageError(ImageError):
    """The file starts as an image and ends too early, or its data is damaged."""

    code = "image-truncated"


class ImageTooLargeError(ImageError):
    """More bytes or pixels than the limits allow; found before the pixels are allocated."""

    code = "image-too-large"
    http_status = 413


class ImageTooSmallError(ImageError):
    code = "image-too-small"


class UnsupportedImageError(ImageError):
    """A readable image of a kind that is refused: animated, multi-page, an unknown colour mode, extreme aspect."""

    code = "image-unsupported"


# --- tables, datasets, training -----------------------------------------------------------------------------


class TableError(MelascopeError):
    """A CSV file whose columns or rows do not keep the contract."""

    code = "table"
    exit_status = 4
    http_status = 422


class DatasetError(MelascopeError):
    """A dataset folder that is not in its published layout, or a download that failed."""

    code = "dataset"
    exit_status = 4


class LeakError(MelascopeError):
    """One lesion, patient or picture on both sides of a split."""

    code = "leak"
    exit_status = 5


class RecipeError(MelascopeError):
    """A training recipe with an unknown key or an impossible value."""

    code = "recipe"
    exit_status = 4


class ParityError(MelascopeError):
    """The exported network does not answer as the trained one does."""

    code = "parity"
    exit_status = 6


# --- bundles --------------------------------------------------------------------------------------------------


class BundleError(MelascopeError):
    """A bundle that is absent, incomplete, altered or of an unknown version."""

    code = "bundle"
    exit_status = 6
    http_status = 503

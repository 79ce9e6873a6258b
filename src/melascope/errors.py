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


# --- requests to the server -----------------------------------------------------------------------------------


class RequestError(UsageError):
    """A request that cannot be understood."""

    code = "request"


class RequestTooLargeError(RequestError):
    """More bytes, files or fields than one request may have."""

    code = "request-too-large"
    http_status = 413


class SlowRequestError(RequestError):
    """The body did not arrive in time."""

    code = "request-too-slow"
    http_status = 408


class UnauthenticatedError(RequestError):
    """Nobody is signed in, or with a name, password or token that does not hold."""

    code = "unauthenticated"
    http_status = 401


class ForbiddenError(RequestError):
    """Signed in, but not for this; a request that another site may have made; or, where nobody has to sign in, one
    that came through a proxy."""

    code = "forbidden"
    http_status = 403


class LaterError(MelascopeError):
    """Nothing is wrong with the request, but it has to wait.

    Parameters
    ----------
    retry_after_s
        When it is worth asking again, in whole seconds.
    """

    def __init__(self, message: str, *, remedy: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class TooManyRequestsError(LaterError):
    """One client asks for more than its share."""

    code = "too-many-requests"
    http_status = 429


class OverloadedError(LaterError):
    """The server has as much to do as it can, or is about to stop."""

    code = "overloaded"
    http_status = 503

"""The novelty model of a bundle, from its arrays."""

from __future__ import annotations

from melascope.bundle.store import Bundle
from melascope.decision.novelty import NoveltyModel
from melascope.errors import BundleError, MelascopeError

#: What the names of the novelty model's arrays begin with in `reference.npz`.
PREFIX = "novelty_"


def novelty_model(bundle: Bundle) -> NoveltyModel | None:
    """What scores how novel an image is; None where the bundle cannot tell.

    Raises
    ------
    BundleError
        The arrays do not make a novelty model.
    """
    arrays = {
        name.removeprefix(PREFIX): array
        for name, array in bundle.reference.items()
        if name.startswith(PREFIX)
    }
    if bundle.manifest.novelty is None:
        if arrays:
            raise BundleError(
                f"{bundle.id}: it holds a novelty model without limits.", remedy="Export the bundle again."
            )
        return None
    try:
        return NoveltyModel.from_arrays(arrays)
    except MelascopeError as fault:
        raise BundleError(f"{bundle.id}: {fault.message}", remedy="Export the bundle again.") from fault

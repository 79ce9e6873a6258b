"""Whether a bundle's network is the one that its heatmap is computed for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from melascope.bundle.store import CAM_WEIGHT, REFERENCE, Bundle
from melascope.errors import BundleError
from melascope.runtime.session import session_for

_N_INPUTS = 8
_TOLERANCE = 1e-3  #: of the largest logit (at least of 1): float32 sums stay a hundred times below


def check_head(bundle: Bundle, *, threads: int | None = None) -> None:
    """Prove by running the graph that the heatmap's weights are those of its last layer.

    Over random pictures, `logits` less `embedding @ weights.T` must be one constant, the layer's bias; and so with
    the mean of `features` in place of `embedding`: then the class activation map adds up to the logit (Zhou et al.,
    CVPR 2016).

    Raises
    ------
    BundleError
        The rest varies by more than a thousandth of the largest logit, is not finite, or `embedding` has another
        width than the weights; or as `Session.run`.
    """
    weight_KF = np.asarray(bundle.reference[CAM_WEIGHT], dtype=np.float64)
    session = session_for(bundle, threads=threads)
    answers = session.run(_pictures(bundle), ("logits", "embedding", "features"))
    logits_NK, embedding_NE, features_NFHW = (answer.astype(np.float64) for answer in answers)
    allowed = _TOLERANCE * max(1.0, float(np.abs(logits_NK).max()))
    for name, pooled_NF in (("embedding", embedding_NE), ("features", features_NFHW.mean(axis=(2, 3)))):
        if pooled_NF.shape[1] != weight_KF.shape[1]:
            raise _misfit(bundle, f"{name} has {pooled_NF.shape[1]} values, the weights {weight_KF.shape[1]}")
        rest_NK = logits_NK - pooled_NF @ weight_KF.T
        spread = float(np.ptp(rest_NK, axis=0).max())
        if not spread <= allowed:  # NaN is none either
            raise _misfit(
                bundle, f"logits less {name} times the weights vary by {spread:.2g}, over {allowed:.2g}"
            )


def _pictures(bundle: Bundle) -> NDArray[np.float32]:
    """Noise of growing strength around random colours, so that the answers differ."""
    shape = bundle.manifest.preprocess.input_shape
    random = np.random.default_rng(0)
    colour_NC11 = random.normal(0, 1, (_N_INPUTS, shape[0], 1, 1))
    strength_N111 = np.linspace(0, 2, _N_INPUTS)[:, None, None, None]
    return (colour_NC11 + strength_N111 * random.normal(0, 1, (_N_INPUTS, *shape))).astype(np.float32)


def _misfit(bundle: Bundle, found: str) -> BundleError:
    return BundleError(
        f"{bundle.id}: the weights in {REFERENCE} are not those of the network's last layer ({found}).",
        remedy="Its heatmaps would show another network's evidence: export the bundle again.",
    )

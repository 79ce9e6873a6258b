"""The only door to ONNX Runtime: one session a process for each bundle and thread count."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import numpy as np

# Some of its builds report what runs where to their maker, unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_faults

from melascope.bundle.store import CAM_WEIGHT, Bundle
from melascope.errors import BundleError, UsageError

INPUT = "pixels"
OUTPUT_RANKS = {"logits": 2, "embedding": 2, "features": 4}

# ONNX Runtime's exceptions share no base of their own.
_FAULTS: tuple[type[Exception], ...] = tuple(
    kind
    for kind in vars(ort_faults).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == ort_faults.__name__
)
_FATAL = 4  # log level: what goes wrong arrives as an exception, not on stderr as well

_sessions: dict[tuple[str, int], Session] = {}
_sessions_lock = threading.Lock()


class Session:
    """A bundle's network, ready to run. `run` may be called from several threads at once.

    Attributes
    ----------
    threads
        Threads that one `run` uses.
    provider
        The execution provider in use.
    version
        Of ONNX Runtime.
    """

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        options.enable_mem_pattern = False  # a block for each size of batch: 78 MB more for no gain in speed
        try:
            self._session = ort.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
        except _FAULTS as fault:
            raise BundleError(
                f"{bundle.id}: ONNX Runtime {ort.__version__} cannot load the network ({fault}).",
                remedy="Update onnxruntime, or export the bundle again.",
            ) from fault
        self._bundle = bundle
        self.threads = threads
        self.provider: str = self._session.get_providers()[0]
        self.version: str = ort.__version__
        self._check_contract()

    def run(self, pixels_NCHW: NDArray[np.float32], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """The named outputs for a batch; what they do not need is not computed.

        Parameters
        ----------
        pixels_NCHW
            As `imaging.preprocess.preprocess` gives them; n at least 1.
        outputs
            Any of `logits` (n, classes), `embedding` (n, e), `features` (n, f, h, w).

        Raises
        ------
        BundleError
            The network fails on the batch or answers in a shape that is not the contract's.
        """
        try:
            answers: list[NDArray[np.float32]] = self._session.run(list(outputs), {INPUT: pixels_NCHW})
        except _FAULTS as fault:
            raise BundleError(
                f"{self._bundle.id}: the network failed on a batch of shape {pixels_NCHW.shape} ({fault}).",
                remedy="Use smaller batches if memory ran out; else export the bundle again.",
            ) from fault
        for name, answer in zip(outputs, answers, strict=True):
            self._check_shape(name, tuple(answer.shape), n=len(pixels_NCHW))
        return answers

    def _check_contract(self) -> None:
        spec = self._bundle.manifest.preprocess
        inputs = {put.name: put for put in self._session.get_inputs()}
        if set(inputs) != {INPUT}:
            raise self._breach(f"has the inputs {sorted(inputs)}; it must have {INPUT!r} alone")
        found = inputs[INPUT]
        if found.type != "tensor(float)" or len(found.shape) != 4 or isinstance(found.shape[0], int):
            raise self._breach(
                f"reads {found.type} of shape {found.shape}; it must read float of (any, C, S, S)"
            )
        if any(isinstance(f, int) and f != e for f, e in zip(found.shape[1:], spec.input_shape, strict=True)):
            raise self._breach(
                f"reads images of shape {found.shape[1:]}, the manifest makes {spec.input_shape}"
            )
        outputs = {put.name: put for put in self._session.get_outputs()}
        for name in OUTPUT_RANKS:
            if name not in outputs:
                raise self._breach(f"has the outputs {sorted(outputs)}; {name!r} is missing")
            if outputs[name].type != "tensor(float)":
                raise self._breach(f"gives {name} as {outputs[name].type}; it must be float")
            if outputs[name].shape:
                self._check_shape(name, tuple(outputs[name].shape))

    def _check_shape(self, name: str, shape: tuple[int | str | None, ...], *, n: int | None = None) -> None:
        """Against the contract, where `shape` states numbers; a graph may leave some open."""
        n_classes, n_features = self._bundle.reference[CAM_WEIGHT].shape
        width = {"logits": n_classes, "features": n_features}.get(name)
        if len(shape) != OUTPUT_RANKS[name] or any(
            wanted is not None and isinstance(found, int) and found != wanted
            for found, wanted in zip(shape[:2], (n, width), strict=True)
        ):
            raise self._breach(
                f"gives {name} of shape {shape}; it must have {OUTPUT_RANKS[name]} axes"
                + (f", the second of {width}" if width else "")
            )

    def _breach(self, what: str) -> BundleError:
        return BundleError(f"{self._bundle.id}: the network {what}.", remedy="Export the bundle again.")


def default_threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def session_for(bundle: Bundle, *, threads: int | None = None) -> Session:
    """The process's session for this bundle; made at the first call, shared afterwards.

    Parameters
    ----------
    threads
        Of one `run`; None: `default_threads()`.

    Raises
    ------
    UsageError
        `threads` below 1, or above four times the processors.
    BundleError
        A network that cannot be loaded or does not keep the contract.
    """
    most = 4 * default_threads()  # each takes memory, and none beyond the processors helps
    if threads is not None and not 1 <= threads <= most:
        raise UsageError(f"threads is {threads}.", remedy=f"Use 1 to {most} on this machine.")
    key = (bundle.id, threads or default_threads())
    with _sessions_lock:
        if key not in _sessions:
            _sessions[key] = Session(bundle, threads=key[1])
        return _sessions[key]

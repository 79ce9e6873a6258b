from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from melascope.datasets.files import open_case_bytes, split_reference
from melascope.errors import DatasetError, UnreadablePathError


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a/b.jpg", ("a/b.jpg", None)),
        ("no #1/b.jpg", ("no #1/b.jpg", None)),
        ("set #1/x.hdf5#ISIC_1", ("set #1/x.hdf5", "ISIC_1")),
        ("x.npz#train/3", ("x.npz", "train/3")),
        ("x.NPZ", ("x.NPZ", None)),
    ],
)
def test_only_archives_have_items(path: str, parts: tuple[str, str | None]) -> None:
    assert split_reference(path) == parts


def test_faults_name_the_file_and_the_item(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as archive:
        archive["here"] = np.void(b"bytes")
    np.savez(tmp_path / "x.npz", train_images=np.zeros((2, 28, 28), np.uint8))
    (tmp_path / "bad.hdf5").write_bytes(b"no archive")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    assert open_case_bytes(f"{tmp_path}/x.hdf5#here") == b"bytes"
    with pytest.raises(DatasetError, match="no image 'there'"):
        open_case_bytes(f"{tmp_path}/x.hdf5#there")
    with pytest.raises(DatasetError, match="has 2 images, no row '2'"):
        open_case_bytes(f"{tmp_path}/x.npz#train/2")
    with pytest.raises(DatasetError, match="no array val_images"):
        open_case_bytes(f"{tmp_path}/x.npz#val/0")
    with pytest.raises(DatasetError, match="no readable HDF5"):
        open_case_bytes(f"{tmp_path}/bad.hdf5#here")
    with pytest.raises(DatasetError, match="no readable npz"):
        open_case_bytes(f"{tmp_path}/bad.npz#train/0")
    with pytest.raises(UnreadablePathError, match="no such file"):
        open_case_bytes(f"{tmp_path}/absent.jpg")

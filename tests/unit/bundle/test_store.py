"""Reading refuses what was altered, is missing, surplus or oversized; writing is exact and atomic."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melascope.bundle import container
from melascope.bundle.store import (
    CAM_WEIGHT,
    Bundle,
    bundle_id,
    pack,
    read_bundle,
    read_manifest,
    reference_bytes,
    write_bundle,
)
from melascope.errors import BundleError

NAMES = ("manifest.json", "model.onnx", "reference.npz", "MODEL_CARD.md")
Make = Callable[..., Bundle]


@pytest.fixture
def folder(tmp_path: Path, make_bundle: Make) -> Path:
    make_bundle(tmp_path / "tiny")
    return tmp_path / "tiny"


def rezip(
    source: Path, destination: Path, change: Callable[[zipfile.ZipFile], None] = lambda _: None, **kept: Any
) -> Path:
    """The folder as a zip, `change`d; `leave_out` names a file that stays out."""
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in NAMES:
            if name != kept.get("leave_out"):
                archive.write(source / name, name)
        change(archive)
    return destination


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and give it the id that fits, as a careful forger would."""
    raw = json.loads((folder / "manifest.json").read_text())
    change(raw)
    raw["id"] = bundle_id(raw["name"], {key: value for key, value in raw.items() if key != "id"})
    (folder / "manifest.json").write_text(json.dumps(raw))


@pytest.mark.parametrize("name", ["b.zip", "b"])
def test_what_is_written_is_read(
    tmp_path: Path, make_bundle: Make, tiny_files: dict[str, bytes], name: str
) -> None:
    bundle = make_bundle(tmp_path / "deep" / name)
    assert bundle.model == tiny_files["model.onnx"]
    assert bundle.card.encode() == tiny_files["MODEL_CARD.md"]
    assert bundle.reference[CAM_WEIGHT].shape == (7, 6)
    assert read_manifest(tmp_path / "deep" / name) == bundle.manifest
    assert [p.name for p in (tmp_path / "deep").iterdir()] == [name]


def test_folder_and_zip_of_one_content_have_one_id_and_zips_are_equal_bytes(
    tmp_path: Path, make_bundle: Make
) -> None:
    ids = {make_bundle(tmp_path / name).id for name in ("a.zip", "b.zip", "c")}
    assert len(ids) == 1
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert pack(tmp_path / "c", tmp_path / "d.zip").id in ids
    assert (tmp_path / "d.zip").read_bytes() == (tmp_path / "a.zip").read_bytes()


def test_the_id_covers_every_file_and_every_fact(tmp_path: Path, make_bundle: Make) -> None:
    ids = [
        make_bundle(tmp_path / "a.zip").id,
        make_bundle(tmp_path / "b.zip", files={"MODEL_CARD.md": b"# Other\n"}).id,
        make_bundle(tmp_path / "c.zip", licence="MIT").id,
    ]
    assert len(set(ids)) == 3
    assert all(found.startswith("tiny@") for found in ids)


@given(
    st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
)
def test_the_id_depends_on_content_alone_not_on_layout(fields: dict[str, Any]) -> None:
    again = json.loads(json.dumps(dict(reversed(fields.items())), indent=3))
    assert bundle_id("x", fields) == bundle_id("x", again)


@pytest.mark.parametrize("name", NAMES)
def test_an_altered_byte_is_found(folder: Path, tmp_path: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    for path in (folder, rezip(folder, tmp_path / "t.zip")):
        with pytest.raises(BundleError):
            read_bundle(path)


def test_an_altered_file_is_named(folder: Path) -> None:
    (folder / "MODEL_CARD.md").write_text("# Better than it is\n")
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md was altered"):
        read_bundle(folder)


def test_an_altered_fact_in_the_manifest_is_found(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"threshold": 0.09', '"threshold": 0.9'))
    with pytest.raises(BundleError, match=r"manifest\.json was altered"):
        read_bundle(folder)
    with pytest.raises(BundleError, match="was altered"):
        read_manifest(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    zipped = rezip(folder, tmp_path / "t.zip", leave_out=name)
    (folder / name).unlink()
    for path in (folder, zipped):
        with pytest.raises(BundleError, match=f"'{name}' is missing"):
            read_bundle(path)


def test_a_surplus_file_is_refused(folder: Path, tmp_path: Path) -> None:
    zipped = rezip(folder, tmp_path / "t.zip", lambda archive: archive.writestr("setup.py", "print()"))
    (folder / "setup.py").write_text("print()")
    for path in (folder, zipped):
        with pytest.raises(BundleError, match=r"'setup\.py' does not belong"):
            read_bundle(path)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "..\\model.onnx", "C:\\x", "a/../../x"])
def test_a_name_that_leads_out_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = info.orig_filename = name
        archive.writestr(info, b"x")

    with pytest.raises(BundleError, match="leads out of the bundle"):
        read_bundle(rezip(folder, tmp_path / "t.zip", add))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused(folder: Path, tmp_path: Path) -> None:
    path = rezip(folder, tmp_path / "t.zip", lambda archive: archive.writestr("MODEL_CARD.md", "other"))
    with pytest.raises(BundleError, match="is in it twice"):
        read_bundle(path)


def test_symbolic_links_are_refused(folder: Path, tmp_path: Path) -> None:
    def add_link(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("MODEL_CARD.md")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")

    zipped = rezip(folder, tmp_path / "t.zip", add_link, leave_out="MODEL_CARD.md")
    (folder / "MODEL_CARD.md").rename(tmp_path / "elsewhere.md")
    (folder / "MODEL_CARD.md").symlink_to(tmp_path / "elsewhere.md")
    for path in (folder, zipped):
        with pytest.raises(BundleError, match=r"'MODEL_CARD\.md' is a symbolic link"):
            read_bundle(path)


def test_special_files_are_refused(folder: Path) -> None:
    (folder / "MODEL_CARD.md").unlink()
    os.mkfifo(folder / "MODEL_CARD.md")  # opening it would wait for ever
    with pytest.raises(BundleError, match="not a plain file"):
        read_bundle(folder)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(folder: Path, tmp_path: Path) -> None:
    def add(archive: zipfile.ZipFile) -> None:
        with archive.open("model.onnx", "w", force_zip64=True) as member:
            for _ in range(65):
                member.write(bytes(1 << 20))

    with pytest.raises(BundleError, match="unpacks from"):
        read_bundle(rezip(folder, tmp_path / "t.zip", add, leave_out="model.onnx"))


def test_an_oversized_member_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "MODEL_CARD.md").write_bytes(os.urandom(container.MAX_BYTES["MODEL_CARD.md"] + 1))
    for path in (folder, rezip(folder, tmp_path / "t.zip")):
        with pytest.raises(BundleError, match=r"MODEL_CARD\.md has \d+ bytes; at most"):
            read_bundle(path)


def test_an_encrypted_member_is_refused(folder: Path, tmp_path: Path) -> None:
    path = rezip(folder, tmp_path / "t.zip")
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")  # the first entry of the central directory; its flags are 8 bytes on
    data[entry + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="encrypted"):
        read_bundle(path)


@pytest.mark.parametrize("version", [1, 3, "2", None])
def test_an_unknown_schema_version_is_refused_before_anything_else(folder: Path, version: object) -> None:
    rewrite_manifest(folder, lambda raw: raw.update(schema_version=version, something_new=1))
    with pytest.raises(BundleError, match="schema version"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(surprise=1), "surprise"),
        (lambda raw: raw["preprocess"].update(surprise=1), r"preprocess\.surprise"),
        (lambda raw: raw["preprocess"].update(size_px=10_000), "size_px is 10000"),
        (lambda raw: raw["calibration"].update(scale_C=[0.0] * 7), "scale_C must be above 0"),
        (lambda raw: raw["calibration"].update(bias_C=[0.0] * 6), "7 classes has as many"),
        (lambda raw: raw["calibration"].update(prevalence_C=[0.0, 1.0, 0, 0, 0, 0, 0]), "above 0 everywhere"),
        (lambda raw: raw["operating_points"][0].update(threshold=1.5), "threshold 1.5"),
        (lambda raw: raw.update(default_operating_point="nope"), "'nope' is not among"),
        (lambda raw: raw.update(name="../x"), "name"),
        (lambda raw: raw["files"].pop("MODEL_CARD.md"), "the manifest lists"),
        (lambda raw: raw["files"].update({"x": raw["files"]["model.onnx"]}), "the manifest lists"),
    ],
)
def test_an_invalid_manifest_names_the_field(
    folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    rewrite_manifest(folder, change)
    with pytest.raises(BundleError, match=message):
        read_bundle(folder)


def test_a_pickle_in_the_reference_is_never_loaded(tmp_path: Path, make_bundle: Make) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    buffer = io.BytesIO()
    np.savez(buffer, **{CAM_WEIGHT: np.array([Bomb()], dtype=object)})
    with pytest.raises(BundleError, match=r"reference\.npz cannot be read"):
        make_bundle(tmp_path / "b.zip", files={"reference.npz": buffer.getvalue()})
    assert not (tmp_path / "exploded").exists()


def test_an_array_whose_header_promises_terabytes_is_refused(tmp_path: Path, make_bundle: Make) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open(f"{CAM_WEIGHT}.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**6)}
        )
    with pytest.raises(BundleError, match=r"reference\.npz cannot be read"):
        make_bundle(tmp_path / "b.zip", files={"reference.npz": buffer.getvalue()})


@pytest.mark.parametrize(
    "weight", [None, np.zeros((3, 6), np.float32), np.zeros((7, 6), np.int64), np.zeros(7)]
)
def test_the_heatmap_weights_must_fit_the_classes(
    tmp_path: Path, make_bundle: Make, weight: np.ndarray | None
) -> None:
    arrays = {"other": np.zeros(2)} if weight is None else {CAM_WEIGHT: weight}
    with pytest.raises(BundleError, match=CAM_WEIGHT):
        make_bundle(tmp_path / "b.zip", files={"reference.npz": reference_bytes(arrays)})


def test_reference_arrays_cannot_be_changed(tiny_bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="read-only"):
        tiny_bundle.reference[CAM_WEIGHT][0, 0] = 1


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off", None])
def test_no_zip_at_all(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "b.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError):
        read_bundle(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_zip_is_a_bundle_error_or_reads_the_same(
    tiny_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle, data: st.DataObject
) -> None:
    content = bytearray(tiny_bundle_path.read_bytes())
    start = (
        content.index(b"PK\x01\x02") if data.draw(st.booleans()) else 0
    )  # the directory is the brittle part
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(start, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    with contextlib.suppress(BundleError):
        assert read_bundle(path).id == tiny_bundle.id


def test_a_failed_write_leaves_nothing(tmp_path: Path, make_bundle: Make, tiny_fields: Make) -> None:
    with pytest.raises(BundleError, match="licence"):
        make_bundle(tmp_path / "b.zip", licence=3)
    with pytest.raises(BundleError, match="given the files"):
        write_bundle(tmp_path / "b.zip", tiny_fields(), {"model.onnx": b""})
    make_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="the folder exists"):
        make_bundle(tmp_path / "b", licence="MIT")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="cannot be written"):
        make_bundle(tmp_path / "file" / "b.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "file"]

"""Each dataset in a small copy of its published layout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from melascope.datasets.files import open_case_bytes
from melascope.datasets.sources import SOURCES, finish_cases, read_source
from melascope.datasets.sources.archive_taxonomy import PATHS, diagnosis_of
from melascope.datasets.sources.own_data import read_csv
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import DatasetError, MelascopeError, TableError, UsageError

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes files below a folder: text as it is, images as unlike bytes."""

    def write(*images: str, **texts: str) -> Path:
        for name in images:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(name.encode())
        for name, text in texts.items():
            (tmp_path / name.replace("__", ".").replace("0x2d", "-")).write_text(text)
        return tmp_path

    return write


def by_id(cases: list[Case]) -> dict[str, Case]:
    return {case.image_id: case for case in cases}


def test_ham10000_reads_either_folder_and_any_ending_but_no_mask(put: Put) -> None:
    root = put(
        "HAM10000_images_part_1/ISIC_0000001.jpg",
        "ham10000_images_part_2/ISIC_0000002.JPEG",
        "HAM10000_segmentations_lesion_tschandl/ISIC_0000002.png",
        HAM10000_metadata__csv="lesion_id,image_id,dx,dx_type,age,sex,localization\n"
        "HAM_1,ISIC_0000001,mel,histo,80.0,male,scalp\n"
        "HAM_2,ISIC_0000002,akiec,consensus,,unknown,unknown\n",
    )
    first, second = read_source("ham10000", root)
    assert first == Case(
        image_id="ISIC_0000001",
        path=str(root / "HAM10000_images_part_1/ISIC_0000001.jpg"),
        diagnosis=Diagnosis.MEL,
        melanoma=True,
        lesion_id="HAM_1",
        age=80,
        sex="male",
        site="scalp",
        confirmed_by="histo",
        source="ham10000",
        sha256=hashlib.sha256(b"HAM10000_images_part_1/ISIC_0000001.jpg").hexdigest(),
    )
    assert second.path.endswith("ham10000_images_part_2/ISIC_0000002.JPEG")
    assert (second.diagnosis, second.melanoma) == (Diagnosis.AKIEC, False)
    assert (second.age, second.sex, second.site) == (None, None, None)


def test_isic2016_has_no_header_and_two_spellings(put: Put) -> None:
    root = put(
        "a/ISIC_1.jpg",
        "a/ISIC_2.jpg",
        "b/ISIC_3.jpg",
        ISBI2016_ISIC_Part3_Training_GroundTruth__csv="ISIC_1,benign\nISIC_2,malignant\n",
        ISBI2016_ISIC_Part3_Test_GroundTruth__csv="ISIC_3,1.0\n",
    )
    cases = by_id(read_source("isic2016", root))
    assert (cases["ISIC_1"].diagnosis, cases["ISIC_1"].melanoma) == (Diagnosis.UNK, False)
    assert (cases["ISIC_2"].diagnosis, cases["ISIC_2"].split) == (Diagnosis.MEL, "train")
    assert (cases["ISIC_3"].diagnosis, cases["ISIC_3"].split) == (Diagnosis.MEL, "test")


HEADER_2017 = "image_id,melanoma,seborrheic_keratosis"
ISIC_2017 = "ISIC0x2d2017_Validation_Part3_GroundTruth__csv"


def test_isic2017_never_guesses_a_nevus(put: Put) -> None:
    root = put(
        *(f"images/ISIC_{n}.jpg" for n in range(3)),
        "images/ISIC_0_superpixels.png",
        **{
            ISIC_2017: f"{HEADER_2017}\nISIC_0,1.0,0.0\nISIC_1,0.0,1.0\nISIC_2,0.0,0.0\n",
            "ISIC0x2d2017_Validation_Data_metadata__csv": "image_id,age_approximate,sex\n"
            "ISIC_2,unknown,female\n",
        },
    )
    mel, bkl, neither = read_source("isic2017", root)
    assert (mel.diagnosis, bkl.diagnosis, neither.diagnosis) == (Diagnosis.MEL, Diagnosis.BKL, Diagnosis.UNK)
    assert neither.melanoma is False
    assert (neither.age, neither.sex, neither.split) == (None, "female", "val")


HEADER_2018 = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"


def test_isic2018_joins_metadata_and_lesion_groupings(put: Put) -> None:
    root = put(
        "ISIC_1.jpg",
        ISIC2018_Task3_Training_GroundTruth__csv=f"{HEADER_2018}\nISIC_1,0.0,0.0,0.0,0.0,0.0,1.0,0.0\n",
        ISIC2018_Task3_Training_Metadata__csv="image,age_approx,anatom_site_general\nISIC_1,60,palms/soles\n",
        ISIC2018_Task3_Training_LesionGroupings__csv="image,lesion_id,diagnosis_confirm_type\nISIC_1,HAM_7,x\n",
    )
    (case,) = read_source("isic2018", root)
    assert (case.diagnosis, case.lesion_id, case.age, case.site) == (Diagnosis.DF, "HAM_7", 60, "palms/soles")


def test_isic2019_unk_is_no_melanoma(put: Put) -> None:
    header = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    root = put(
        "ISIC_1_downsampled.jpg",
        "ISIC_2.jpg",
        ISIC_2019_Training_GroundTruth__csv=f"{header}\nISIC_1_downsampled,0,0,0,0,0,0,0,1,0\n",
        ISIC_2019_Test_GroundTruth__csv=f"{header},score_weight\nISIC_2,0,0,0,0,0,0,0,0,1,0.0\n",
    )
    cases = by_id(read_source("isic2019", root))
    assert cases["ISIC_1_downsampled"].diagnosis is Diagnosis.SCC
    assert (cases["ISIC_2"].diagnosis, cases["ISIC_2"].melanoma) == (Diagnosis.UNK, False)


def isic2020_row(diagnosis: str, verdict: str) -> str:
    return (
        "image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,"
        "diagnosis,benign_malignant,target\n"
        f"ISIC_1,IP_1,IL_1,male,45,torso,{diagnosis},{verdict},0\n"
    )


@pytest.mark.parametrize(
    ("diagnosis", "verdict", "expected"),
    [
        ("unknown", "benign", (Diagnosis.UNK, False)),
        ("lentigo NOS", "benign", (Diagnosis.UNK, False)),
        ("melanoma", "malignant", (Diagnosis.MEL, True)),
        ("lichenoid keratosis", "benign", (Diagnosis.BKL, False)),
    ],
)
def test_isic2020(put: Put, diagnosis: str, verdict: str, expected: tuple[Diagnosis, bool]) -> None:
    root = put("train/ISIC_1.jpg", ISIC_2020_Training_GroundTruth_v2__csv=isic2020_row(diagnosis, verdict))
    (case,) = read_source("isic2020", root)
    assert (case.diagnosis, case.melanoma) == expected
    assert (case.patient_id, case.lesion_id) == ("IP_1", "IL_1")


def test_isic2020_contradiction_is_named(put: Put) -> None:
    root = put("ISIC_1.jpg", train__csv=isic2020_row("melanoma", "benign"))
    with pytest.raises(TableError, match=r"line 2: benign_malignant is 'benign'.*must be malignant"):
        read_source("isic2020", root)


MELANOMA = "Malignant::Malignant melanocytic proliferations (Melanoma)::Melanoma Invasive"


@pytest.fixture
def slice_3d(tmp_path: Path) -> Path:
    """ISIC 2024 as Kaggle hands it out."""
    rows = [("1", 0, "Benign"), ("2", 1, MELANOMA), ("3", 0, ""), ("4", 1, "")]
    rows += [("5", 1, "Malignant::Malignant epidermal proliferations::Squamous cell carcinoma in situ")]
    text = "isic_id,target,patient_id,age_approx,sex,anatom_site_general,lesion_id,iddx_full\n"
    text += "".join(f"ISIC_{n},{target},IP_1,55,male,,,{path}\n" for n, target, path in rows)
    (tmp_path / "train-metadata.csv").write_text(text)
    with h5py.File(tmp_path / "train-image.hdf5", "w") as archive:
        for n, _, _ in rows:
            archive[f"ISIC_{n}"] = np.void(f"jpeg {n}".encode())
    return tmp_path


def test_isic2024_in_hdf5(slice_3d: Path) -> None:
    cases = by_id(read_source("isic2024", slice_3d))
    found = {n: (case.diagnosis, case.melanoma) for n, case in cases.items()}
    assert found == {
        "ISIC_1": (Diagnosis.UNK, False),
        "ISIC_2": (Diagnosis.MEL, True),
        "ISIC_3": (Diagnosis.UNK, False),
        "ISIC_4": (Diagnosis.UNK, None),
        "ISIC_5": (Diagnosis.AKIEC, False),
    }
    assert cases["ISIC_2"].path == f"{slice_3d}/train-image.hdf5#ISIC_2"
    assert open_case_bytes(cases["ISIC_2"].path) == b"jpeg 2"
    assert cases["ISIC_2"].sha256 == hashlib.sha256(b"jpeg 2").hexdigest()


def test_isic2024_in_folders(put: Put) -> None:
    root = put(
        "ISIC_2024_Training_Input/ISIC_1.jpg",
        ISIC_2024_Training_GroundTruth__csv="isic_id,malignant\nISIC_1,1.0\n",
        ISIC_2024_Training_Supplement__csv=f"isic_id,lesion_id,iddx_full\nISIC_1,IL_4,{MELANOMA}\n",
    )
    (case,) = read_source("isic2024", root)
    assert (case.diagnosis, case.lesion_id) == (Diagnosis.MEL, "IL_4")


def test_archive_metadata(put: Put) -> None:
    root = put(
        "ISIC_0000001.jpg",
        "ISIC_0000002.jpg",
        metadata__csv="isic_id,diagnosis_1,diagnosis_2,diagnosis_3,diagnosis_4,patient_id\n"
        'ISIC_0000001,Benign,Benign melanocytic proliferations,Nevus,"Nevus, Atypical",IP_1\n'
        "ISIC_0000002,,,,,IP_1\n",
    )
    nevus, unlabelled = read_source("isic-archive", root)
    assert (nevus.diagnosis, nevus.patient_id) == (Diagnosis.NV, "IP_1")
    assert (unlabelled.diagnosis, unlabelled.melanoma) == (Diagnosis.UNK, None)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Malignant", (Diagnosis.UNK, None)),
        ("Malignant::Merkel cell proliferation::Merkel cell carcinoma", (Diagnosis.UNK, False)),
        ("Malignant::Collision - At least one malignant proliferation", (Diagnosis.UNK, None)),
        (
            "Indeterminate::Indeterminate melanocytic proliferations::Atypical Spitz tumor",
            (Diagnosis.UNK, None),
        ),
        ("Benign::Benign soft tissue proliferations - Vascular::Hemangioma", (Diagnosis.VASC, False)),
        ("Benign::Cysts::Milium", (Diagnosis.UNK, False)),
    ],
)
def test_archive_terms_that_name_no_class(path: str, expected: tuple[Diagnosis, bool | None]) -> None:
    assert diagnosis_of(path.split("::")) == expected


def test_no_mapping_calls_a_melanoma_by_another_name() -> None:
    assert {path for path, (_, melanoma) in PATHS.items() if melanoma} == {
        "Malignant::Malignant melanocytic proliferations (Melanoma)"
    }
    for source in SOURCES.values():
        assert source.layout
        assert source.licence
        assert source.mapping, source.name


def test_dermamnist(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"{part}_images": rng.integers(0, 256, (n, 28, 28, 3), np.uint8) for part, n in PARTS.items()}
    labels = {f"{part}_labels": np.full((n, 1), 4, np.uint8) for part, n in PARTS.items()}
    np.savez(tmp_path / "dermamnist.npz", **arrays, **labels)
    cases = read_source("dermamnist", tmp_path)
    assert [case.split for case in cases] == ["train", "train", "train", "val", "test"]
    assert cases[1].path == f"{tmp_path}/dermamnist.npz#train/1"
    assert {case.diagnosis for case in cases} == {Diagnosis.MEL}

    from melascope.imaging.decode import decode_image

    pixels = decode_image(open_case_bytes(cases[1].path), name="x").pixels_HWC
    np.testing.assert_array_equal(pixels, arrays["train_images"][1])


PARTS = {"train": 3, "val": 1, "test": 1}


def test_folders_of_words_and_codes(put: Put) -> None:
    root = put("train/MEL/a.jpg", "train/Seborrheic_Keratosis/a.jpg", "validation/not-melanoma/b.png")
    cases = by_id(read_source("folders", root))
    assert cases["train/MEL/a.jpg"].diagnosis is Diagnosis.MEL
    assert cases["train/Seborrheic_Keratosis/a.jpg"].diagnosis is Diagnosis.BKL
    assert cases["validation/not-melanoma/b.png"].melanoma is False
    assert {case.split for case in cases.values()} == {"train", "val"}


def test_a_folder_that_is_no_diagnosis(put: Put) -> None:
    root = put("MEL/a.jpg", "moles/b.jpg")
    with pytest.raises(DatasetError, match="'moles' is no diagnosis"):
        read_source("folders", root)


def test_csv_with_other_names(put: Put) -> None:
    root = put(
        "images/one.jpg", "images/two.png", mine__csv="file,dx,pid\none,mm,7\ntwo,Melanocytic-Nevus,7\n"
    )
    read = read_csv(
        root / "mine.csv",
        columns={"image_id": "file", "diagnosis": "dx", "patient_id": "pid"},
        values={"mm": "melanoma"},
    )
    cases = by_id(finish_cases(read, root=root, allow_missing=False))
    assert (cases["one"].diagnosis, cases["two"].diagnosis) == (Diagnosis.MEL, Diagnosis.NV)
    assert cases["one"].patient_id == "7"
    assert cases["one"].source == "mine"


@pytest.mark.parametrize(
    ("columns", "values", "table", "error", "match"),
    [
        ({}, {}, "image_id,diagnosis\na,mole\n", TableError, "line 2: diagnosis is 'mole'"),
        ({}, {}, "image_id,diagnosis,melanoma\na,NV,1\n", TableError, "contradicts the diagnosis 'NV'"),
        ({}, {}, "image_id,melanoma\na,maybe\n", TableError, "melanoma is 'maybe'"),
        ({}, {}, "image_id,age\na,old\n", TableError, "age is 'old'"),
        ({"diagnosis": "dx"}, {}, "image_id\na\n", TableError, "column 'dx' is missing"),
        ({"colour": "dx"}, {}, "image_id\na\n", UsageError, "'colour' is no column"),
        ({}, {"x": "moles"}, "image_id\na\n", UsageError, "'x' cannot mean 'moles'"),
        ({}, {}, "image_id,diagnosis\na\n", TableError, "more or fewer cells"),
        ({}, {}, "image_id\na\na\n", TableError, "labelled more than once"),
    ],
)
def test_csv_faults(
    put: Put,
    columns: dict[str, str],
    values: dict[str, str],
    table: str,
    error: type[MelascopeError],
    match: str,
) -> None:
    root = put("a.jpg", mine__csv=table)
    with pytest.raises(error, match=match):
        finish_cases(
            read_csv(root / "mine.csv", columns=columns, values=values), root=root, allow_missing=False
        )


LABELS_2017 = "image_id,melanoma,seborrheic_keratosis\n" + "".join(f"ISIC_{n},0,0\n" for n in range(8))


def test_absent_images_are_counted_named_or_left_out(put: Put, caplog: pytest.LogCaptureFixture) -> None:
    root = put("ISIC_3.jpg", **{ISIC_2017: LABELS_2017})
    with pytest.raises(
        DatasetError, match=r"7 of 8 labelled images are absent \(ISIC_0, ISIC_1, .*, \.\.\.\)"
    ):
        read_source("isic2017", root)
    assert [case.image_id for case in read_source("isic2017", root, allow_missing=True)] == ["ISIC_3"]
    assert "7 of 8" in caplog.text


@pytest.mark.parametrize(
    ("row", "match"),
    [("ISIC_1,2,0", "melanoma is '2'"), ("ISIC_1,1,1", "cannot be 1"), (",0,0", "image_id is ''")],
)
def test_label_faults_name_line_and_value(put: Put, row: str, match: str) -> None:
    root = put("ISIC_1.jpg", **{ISIC_2017: f"image_id,melanoma,seborrheic_keratosis\n{row}\n"})
    with pytest.raises(TableError, match=f"line 2.*{match}|{match}"):
        read_source("isic2017", root)


def test_two_marked_classes(put: Put) -> None:
    root = put(
        "ISIC_1.jpg", ISIC2018_Task3_Training_GroundTruth__csv=f"{HEADER_2018}\nISIC_1,1,1,0,0,0,0,0\n"
    )
    with pytest.raises(TableError, match=r"line 2: 2 classes are marked \(MEL, NV\)"):
        read_source("isic2018", root)


def test_a_stem_in_two_places(put: Put) -> None:
    text = "image_id,melanoma,seborrheic_keratosis\nISIC_1,0,0\n"
    root = put("a/ISIC_1.jpg", "longer/ISIC_1.jpg", **{ISIC_2017: text})
    with pytest.raises(DatasetError, match="ISIC_1 is there twice with different content"):
        read_source("isic2017", root)


def test_wrong_folder_and_wrong_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no file HAM10000_metadata.csv"):
        read_source("ham10000", tmp_path)
    with pytest.raises(DatasetError, match="is no folder"):
        read_source("ham10000", tmp_path / "absent")
    with pytest.raises(UsageError, match="no source 'ham'"):
        read_source("ham", tmp_path)
    with pytest.raises(DatasetError, match=r"one dermamnist\*\.npz is expected, found none"):
        read_source("dermamnist", tmp_path)

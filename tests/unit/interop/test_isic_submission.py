import csv

import numpy as np
import pytest

from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.evaluation.isic_scores import isic_scores
from melascope.interop.isic_submission import FORMATS, write_submission

EIGHT = (*ISIC2018_CLASSES, Diagnosis.SCC)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("isic2018", "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"),
        ("isic2019", "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"),
        ("isic2020", "image_name,target"),
        ("isic2024", "isic_id,target"),
    ],
)
def test_headers_are_those_of_the_challenges(name, header):
    assert ",".join(FORMATS[name].header) == header


def test_what_each_format_asks_of_a_model_with_and_without_scc():
    parts = [0.3, 0.2, 0.1, 0.05, 0.05, 0.1, 0.1, 0.1]
    eight = dict(zip(EIGHT, parts, strict=True))
    seven = {diagnosis: eight[diagnosis] for diagnosis in ISIC2018_CLASSES}

    def values(name, probabilities):
        return [float(cell) for cell in FORMATS[name].row("x", probabilities)[1:]]

    assert values("isic2018", eight) == pytest.approx([0.3, 0.2, 0.1, 0.15, 0.05, 0.1, 0.1])
    assert values("isic2019", eight) == pytest.approx([0.3, 0.2, 0.1, 0.05, 0.05, 0.1, 0.1, 0.1, 0])
    assert values("isic2019", seven)[-2:] == [0, 0]
    assert values("isic2020", eight) == [0.3]
    assert values("isic2024", eight) == pytest.approx([0.3 + 0.1 + 0.05 + 0.1])


def test_a_written_submission_keeps_every_digit_and_is_scored(tmp_path):
    path = tmp_path / "new" / "submission.csv"
    random = np.random.default_rng(0)
    probabilities_NC = random.dirichlet(np.ones(7), 60)
    images = [f"ISIC_{n}" for n in range(60)]
    write_submission(FORMATS["isic2018"], images, probabilities_NC, ISIC2018_CLASSES, path)
    rows = list(csv.reader(path.read_text().splitlines()))
    assert np.array([row[1:] for row in rows[1:]], dtype=float).tolist() == probabilities_NC.tolist()
    truth_path = tmp_path / "truth.csv"
    one_hot = np.eye(7)[probabilities_NC.argmax(axis=1)]
    write_submission(FORMATS["isic2018"], images, one_hot, ISIC2018_CLASSES, truth_path)
    assert isic_scores(truth_path, path).balanced_accuracy == 1.0
    assert [entry.name for entry in path.parent.iterdir()] == ["submission.csv"]

import pytest

from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.interop.isic_submission import FORMATS

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

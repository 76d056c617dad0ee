"""Quality rows: what they are as text, and what the settings make of a doubt."""

import json
from dataclasses import asdict

import pytest

from mirv.analysis.errors import Unsuitable
from mirv.config.settings.processing import Quality
from mirv.dicom_io.model import Note, QualityOutcome, QualityRow
from mirv.dicom_io.study.quality_rows import QualityRows, with_action

NAMED = Quality(refuse=("matrix",))


def test_the_words_of_the_tables_and_the_catalogue() -> None:
    """Stored rows and CSV readers know these: a change of one is a change of the contract."""
    assert [str(one) for one in QualityOutcome] == ["ok", "warn", "refused", "off", "unknown"]
    assert tuple(asdict(QualityRow(check="matrix", outcome=QualityOutcome.OK))) == (
        "study_uid", "series_uid", "object_uid", "lesion", "check", "outcome", "found", "wanted",
        "detail", "file",
    )  # fmt: skip


def test_a_row_comes_back_from_json() -> None:
    row = QualityRow(study_uid="1.2", check="matrix", outcome=QualityOutcome.REFUSED, found="256")
    back = QualityRow.from_fields(json.loads(json.dumps(asdict(row))))
    assert back == row
    assert back.outcome is QualityOutcome.REFUSED and back.refused


def test_an_unknown_outcome_is_no_row() -> None:
    row = asdict(QualityRow(check="matrix", outcome=QualityOutcome.OK))
    with pytest.raises(ValueError, match="perhaps"):
        QualityRow.from_fields({**row, "outcome": "perhaps"})


@pytest.mark.parametrize(
    ("outcome", "becomes"),
    [("ok", "ok"), ("warn", "refused"), ("unknown", "refused"), ("off", "off")],
)
def test_a_doubt_the_settings_name_is_a_refusal(outcome: str, becomes: str) -> None:
    note = Note("matrix", QualityOutcome(outcome), "256 x 256")
    assert with_action(note, NAMED).outcome == becomes
    assert with_action(note, Quality()) == note
    rows = QualityRows("1.2", "1.3", ())
    rows.add(note)
    rows.enforce(Quality())
    if becomes == "refused":
        with pytest.raises(Unsuitable, match="quality_matrix: found 256 x 256"):
            rows.enforce(NAMED)
    else:
        rows.enforce(NAMED)

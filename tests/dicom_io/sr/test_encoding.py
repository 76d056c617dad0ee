"""The encoder writes what pydicom writes, and decimal strings keep what fits."""

import io
import math
import struct

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.model import Code
from mirv.dicom_io.sr import items
from mirv.dicom_io.sr.concepts import own, ucum
from mirv.dicom_io.sr.encoding import clean, decimal_string, item, uid

NAME, VALUE, UNIT = Code("1", "DCM", "Name"), Code("2", "SCT", "Value"), ucum("mm", "millimeter")
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def _code(code: Code) -> list[Dataset]:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = code.value, code.scheme, code.meaning
    return [ds]


def _base(kind: str, relationship: str) -> Dataset:
    ds = Dataset()
    ds.RelationshipType, ds.ValueType, ds.ConceptNameCodeSequence = relationship, kind, _code(NAME)
    return ds


def _bytes(ds: Dataset) -> bytes:
    """The dataset as one item of known length, by pydicom."""
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = True, False
    write_dataset(target, ds)
    return item(target.getvalue())


def test_num_equals_pydicom() -> None:
    child = _base("CODE", "HAS CONCEPT MOD")
    child.ConceptCodeSequence = _code(VALUE)
    num, measured = _base("NUM", "CONTAINS"), Dataset()
    measured.MeasurementUnitsCodeSequence = _code(UNIT)
    measured.FloatingPointValue, measured.NumericValue = 2.5, "2.5"
    num.MeasuredValueSequence, num.ContentSequence = [measured], [child]
    modifier = items.code_item("HAS CONCEPT MOD", NAME, VALUE)
    assert items.num_item("CONTAINS", NAME, 2.5, UNIT, [modifier]) == _bytes(num)


def test_other_items_equal_pydicom() -> None:
    text, uidref, date = _base("TEXT", "A"), _base("UIDREF", "A"), _base("DATE", "A")
    text.TextValue, uidref.UID, date.Date = "Grüße", "1.2.3", "20200101"
    text.SpecificCharacterSet = "ISO_IR 192"  # only to make pydicom encode as the document does
    encoded = items.text_item("A", NAME, "Grüße")
    parsed = pydicom.dcmread(io.BytesIO(encoded[8:]), force=True)
    parsed.SpecificCharacterSet = "ISO_IR 192"
    assert parsed[0x0040A160].value.encode("latin-1").decode() in {"Grüße", "Grüße "}
    assert items.uid_item("A", NAME, "1.2.3") == _bytes(uidref)
    assert items.date_item("A", NAME, "20200101") == _bytes(date)
    container = _base("CONTAINER", "CONTAINS")
    container.ContinuityOfContent, container.ContentSequence = "SEPARATE", [date]
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "1411"
    container.ContentTemplateSequence = [template]
    made = items.container_item("CONTAINS", NAME, [_bytes(date)], "1411")
    assert made == _bytes(container)


def test_image_and_coordinates_equal_pydicom() -> None:
    image, reference = _base("IMAGE", "CONTAINS"), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2", "1.2.3"
    reference.ReferencedFrameNumber, reference.ReferencedSegmentNumber = [4, 5], [6]
    reference["ReferencedSegmentNumber"].VR = "US"
    image.ReferencedSOPSequence = [reference]
    encoded = items.sop_reference("1.2", "1.2.3", frames=[4, 5], segments=[6])
    assert items.image_item("CONTAINS", NAME, encoded) == _bytes(image)
    coordinates = _base("SCOORD", "CONTAINS")
    coordinates.GraphicData, coordinates.GraphicType = [1.5, 2.0], "POINT"
    coordinates.ContentSequence = [image]
    made = items.scoord_item("CONTAINS", NAME, "POINT", [1.5, 2.0], [_bytes(image)])
    assert made == _bytes(coordinates)


@given(FINITE)
def test_decimal_strings_fit_and_keep_nine_digits(value: float) -> None:
    text = decimal_string(value)
    assert len(text) <= 16
    assert math.isclose(float(text), value, rel_tol=1e-8, abs_tol=5e-324)


@given(st.floats(min_value=1e-4, max_value=1e15))
def test_decimal_strings_of_common_sizes_keep_twelve_digits(value: float) -> None:
    assert math.isclose(float(decimal_string(value)), value, rel_tol=1e-11)


@given(FINITE)
def test_numbers_hold_the_exact_double(value: float) -> None:
    encoded = items.num_item("CONTAINS", NAME, value, UNIT)
    parsed = pydicom.dcmread(io.BytesIO(encoded[8:]), force=True)
    exact = parsed.MeasuredValueSequence[0].FloatingPointValue
    assert struct.pack("<d", exact) == struct.pack("<d", value)


@pytest.mark.parametrize("text", ["a\\b", "a\nb", "\x00\x1b[31m", " x ", "\ud800"])
def test_outside_text_is_made_one_clean_value(text: str) -> None:
    cleaned = clean(text, 64)
    assert "\\" not in cleaned and cleaned.isprintable() and cleaned == cleaned.strip()
    cleaned.encode("utf-8")


def test_what_is_no_uid_is_refused() -> None:
    for wrong in ("", "a", "1" * 65, "../x"):
        with pytest.raises(Unsuitable, match="invalid_uid"):
            uid(0x0040A124, wrong)


def test_own_codes_fit_and_differ() -> None:
    first, second = own("mirv_dissimilarity_max", "a"), own("mirv_dissimilarity_mean", "b")
    assert len(first.value) <= 16
    assert first.value != second.value

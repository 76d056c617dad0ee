"""Fixed rules that choose lesions."""

from mirv.analysis.patient.target_lesions import Measured, dominant, recist_targets


def test_recist_targets():
    """Eisenhauer 2009: 10 mm, nodes 15 mm in the short axis, two an organ, five in all, no bone."""
    lesions = [
        Measured("lung", 1, 30),
        Measured("lung", 1, 20),
        Measured("lung", 1, 25),
        Measured("liver", 1, 9.9),
        Measured("lymph node", 1, 40, 14.9),
        Measured("lymph node", 1, 20, 15),
        Measured("bone", 9, 80),
        Measured("adrenal", 1, 12),
        Measured("soft tissue", 1, 11),
        Measured("pleura", 1, 10),
    ]
    assert recist_targets(lesions) == [0, 2, 5, 7, 8]
    assert recist_targets(lesions, "lung") == [0, 2]
    assert dominant(lesions) == [6]
    assert dominant(lesions, "liver") == [3]
    assert dominant(lesions, "pancreas") == []

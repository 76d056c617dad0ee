"""The list of outputs: each name once, and names that no output has are refused."""

import pytest

from mirv.config.settings import Settings
from mirv.config.settings.processing import Outputs
from mirv.dicom_io.outputs import OUTPUTS, check_extras
from mirv.service.study.plan import plan_from


def test_every_role_and_series_number_is_there_once() -> None:
    roles = [output.role for output in OUTPUTS]
    assert len({role.name for role in roles}) == len({role.series_number for role in roles})
    assert len({role.name for role in roles}) == len(roles)


def test_what_can_be_made_beside_the_others_is_known_by_name() -> None:
    check_extras(Settings().outputs.extras)
    check_extras([output.role.name for output in OUTPUTS if not output.always])
    with pytest.raises(ValueError, match=r"outputs\.extras: found report_pfd, wanted some of"):
        plan_from(Settings(outputs=Outputs(extras=("headline_sr", "report_pfd"))))
    with pytest.raises(ValueError, match="found lesion_sr"):
        check_extras(["lesion_sr"])

"""Arrays as SimpleITK images, for what the node's own arithmetic is compared with."""

from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody uses

from mirv.analysis.model import Geometry


def to_sitk(values: np.ndarray, geometry: Geometry) -> Any:
    """A SimpleITK image of an array [slice, row, column] on its grid."""
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetDirection(geometry.directions[:, ::-1].ravel().tolist())
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    return image

"""The report for people as an image: one frame a page (PS3.3 A.8.3), for archives without PDF."""

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydicom import Dataset

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import Artifact, RenderContext, StudyInput
from mirv.dicom_io.outputs import document
from mirv.dicom_io.outputs.document import Role
from mirv.dicom_io.outputs.pages.pages import STYLE, TITLE, report_pages
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.encoding import element

REPORT_SC = Role("report_sc", "1.2.840.10008.5.1.4.1.1.7.2", "OT", 9006, f"{TITLE} (research use)")
DPI = 150
"""The smallest letters are then 11 pixels high; a page is 2.2 MB."""
_PAGE_NUMBERS = 0x00182001
# Weights of red, green and blue in brightness (ITU-R BT.601), in parts of 65536.
_BRIGHTNESS = np.array([19595, 38470, 7471], np.uint32)


def report_sc(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> tuple[Artifact, ...]:
    """Render the report as a Multi-frame Grayscale Byte Secondary Capture.

    Grey, since the pages are drawn to be read in grey: a third of the size of colour.
    """
    with rc_context(STYLE):
        pages = [_grey(page) for page in report_pages(study, result, context)]
    ds = document.header(study, context, REPORT_SC)
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.DerivationDescription = concepts.RESEARCH_USE_TEXT
    ds.BurnedInAnnotation = "YES"
    ds.PatientOrientation = ds.Laterality = None
    ds.LossyImageCompression = "00"
    document.name_replaced_image(ds, context, REPORT_SC)
    ds.NumberOfFrames = len(pages)
    if len(pages) > 1:
        ds.FrameIncrementPointer = _PAGE_NUMBERS
        ds.PageNumberVector = list(range(1, len(pages) + 1))
    _describe_pixels(ds, pages[0].shape)
    pixels = element(0x7FE00010, "OB", b"".join(page.tobytes() for page in pages))
    return (document.artifact(ds, REPORT_SC, context, pixels),)


def _grey(page: Figure) -> NDArray[np.uint8]:
    """A page's pixels by brightness, as a grey printer gives them."""
    canvas = FigureCanvasAgg(page)
    page.set_dpi(DPI)
    canvas.draw()
    colours = np.asarray(canvas.buffer_rgba())[..., :3].astype(np.uint32)
    grey: NDArray[np.uint8] = ((colours @ _BRIGHTNESS + 32768) >> 16).astype(np.uint8)
    return grey


def _describe_pixels(ds: Dataset, shape: tuple[int, ...]) -> None:
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.WindowCenter, ds.WindowWidth = 128, 256

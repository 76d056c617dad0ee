"""The report for people as a document: Encapsulated PDF (PS3.3 A.45.1)."""

import io

from matplotlib import rc_context
from matplotlib.backends.backend_pdf import PdfPages

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import Artifact, RenderContext, StudyInput
from mirv.dicom_io.outputs import document
from mirv.dicom_io.outputs.document import Role
from mirv.dicom_io.outputs.pages.pages import STYLE, TITLE, report_pages
from mirv.dicom_io.standard.identity import MODEL_NAME

REPORT_PDF = Role("report_pdf", "1.2.840.10008.5.1.4.1.1.104.1", "DOC", 9005, TITLE)


def report_pdf(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> tuple[Artifact, ...]:
    """Render the report and wrap it as an Encapsulated PDF of the study."""
    content = pdf(study, result, context)
    ds = document.header(study, context, REPORT_PDF)
    ds.ConversionType = "WSD"
    ds.AcquisitionDateTime = None
    ds.BurnedInAnnotation = "YES"
    ds.DocumentTitle = f"{TITLE} (research use)"
    ds.ConceptNameCodeSequence = []
    ds.SourceInstanceSequence = [
        document.sop_dataset(reference) for reference in document.inputs(study)
    ]
    document.name_replaced_document(ds, context, REPORT_PDF)
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(content)
    ds.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return (document.artifact(ds, REPORT_PDF, context, b""),)


def pdf(study: StudyInput, result: StudyResult, context: RenderContext) -> bytes:
    """The PDF itself."""
    buffer = io.BytesIO()
    metadata = {
        "Title": TITLE,
        "Creator": f"{MODEL_NAME} {context.software_version}",
        "Producer": None,
        "CreationDate": context.created,
        "ModDate": context.created,
    }
    with rc_context(STYLE), PdfPages(buffer, metadata=metadata) as pages:
        for page in report_pages(study, result, context):
            pages.savefig(page)
    return buffer.getvalue()

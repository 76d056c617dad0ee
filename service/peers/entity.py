"""The node as an application entity: the same to whoever calls it and whomever it calls."""

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES

from mirv.dicom_io.standard.classes import EXPLICIT, INPUT_CLASSES
from mirv.dicom_io.standard.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from mirv.service.peers.sockets import mend_sockets

STORAGE_CLASSES = tuple(one.uid for one in INPUT_CLASSES)
# Explicit little endian first: of several offered, the first of this order is taken.
TRANSFER_SYNTAXES = (EXPLICIT, *(uid for uid in ALL_TRANSFER_SYNTAXES if uid != EXPLICIT))


def application_entity(ae_title: str) -> AE:
    """The node under a title, without contexts."""
    mend_sockets()
    ae = AE(ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return ae

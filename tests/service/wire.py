"""A listener under test, and peers that send exactly the bytes they are told to."""

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from mirv.config.settings.network import Listener as ListenerSettings
from mirv.dicom_io.files.part10 import file_meta
from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.inbound.listener import Listener
from mirv.service.objects.spool import Spool
from mirv.service.peers.destinations.outcome import Outgoing
from mirv.service.peers.sockets import mend_sockets
from tests.peers import free_port

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = b"1.2.840.10008.1.2.1"
ECHO = "1.2.840.10008.1.1"

mend_sockets()  # requestors of tests too: pynetdicom leaves those of a refused or lost one open


@dataclass
class Serving:
    """A listener with its spool and catalogue."""

    listener: Listener
    spool: Spool
    store: Catalogue
    port: int

    @property
    def files(self) -> list[Path]:
        """Every file in the spool, temporary ones included."""
        return sorted(path for path in self.spool.folder.rglob("*") if path.is_file())

    def echoes(self) -> bool:
        """Whether a well-behaved peer is served."""
        with associate(self.port, [ECHO]) as association:
            return bool(association.is_established and association.send_c_echo().Status == 0)


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Serving]:
    """Run a listener on loopback."""
    port = free_port()
    spool, store = Spool(folder / "spool"), Catalogue(sqlite_url(folder / "catalogue.sqlite"))
    listener = Listener(ListenerSettings(port=port, **settings), spool, store)
    listener.start()
    try:
        yield Serving(listener, spool, store, port)
    finally:
        listener.stop()
        store.close()


@contextmanager
def associate(
    port: int,
    classes: Sequence[str] = (CT,),
    syntax: str = ExplicitVRLittleEndian,
    called: str = "MIRV",
    calling: str = "PEER",
    **more: Any,
) -> Iterator[Any]:
    """An association as a requestor; look at `is_established`."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 30
    for sop_class in classes:
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate("127.0.0.1", port, ae_title=called, **more)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def ct_slice(number: int = 1, **tags: Any) -> Dataset:
    """A small CT slice; `tags` replace or, when None, remove attributes."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, f"1.2.3.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.0"
    ds.FrameOfReferenceUID = "1.2.3.9"
    ds.Modality, ds.PatientID, ds.PatientName = "CT", "SENTINEL-ID", "SENTINEL^NAME"
    ds.StudyDate, ds.InstanceNumber = "20200101", number
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
    ds.Rows = ds.Columns = 16
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PixelData = bytes(16 * 16 * 2)
    for name, value in tags.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def encoded(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set alone, as it goes over the wire."""
    uid = UID(syntax)
    buffer = BytesIO()
    dcmwrite(buffer, ds, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian)
    return buffer.getvalue()


def store_bytes(association: Any, content: bytes, uid: str, sop_class: str = CT) -> Dataset:
    """C-STORE these bytes as they are; the response (Status, ErrorComment)."""
    request = C_STORE()
    request.MessageID = 7
    request.Priority = 2
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = uid
    request.DataSet = BytesIO(content)
    (context,) = [one for one in association.accepted_contexts if one.abstract_syntax == CT]
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    result = Dataset()
    if answer is not None:
        result.Status = answer.Status
        result.ErrorComment = answer.ErrorComment or ""
    return result


def store_status(association: Any, ds: Dataset) -> int:
    """C-STORE a data set as it is; the status."""
    answer = store_bytes(association, encoded(ds), str(ds.SOPInstanceUID))
    return int(answer.Status)


def dial(port: int) -> socket.socket:
    """A bare connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def associate_request(
    called: str = "MIRV",
    calling: str = "RAW",
    syntaxes: tuple[bytes, ...] = (EXPLICIT,),
    sop_class: str = CT,
) -> bytes:
    """An A-ASSOCIATE-RQ PDU (PS3.8 section 9.3.2) for a SOP class, in both roles."""

    def part(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    offered = b"".join(part(0x40, syntax) for syntax in syntaxes)
    context = bytes((1, 0, 0, 0)) + part(0x30, sop_class.encode()) + offered
    role = struct.pack(">H", len(sop_class)) + sop_class.encode() + b"\1\1"
    user = part(0x51, struct.pack(">I", 16384)) + part(0x52, b"1.2.3.4") + part(0x54, role)
    body = (
        struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
        + part(0x10, b"1.2.840.10008.3.1.1.1")
        + part(0x20, context)
        + part(0x50, user)
    )
    return struct.pack(">BxI", 1, len(body)) + body


def ended(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side ends the connection within this time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def part10(ds: Dataset) -> bytes:
    """The data set as a complete file."""
    uid = str(ds.SOPInstanceUID)
    return file_meta(str(ds.SOPClassUID), uid, ExplicitVRLittleEndian) + encoded(ds)


def three_slices(folder: Path) -> list[Outgoing]:
    """Files of one study to be sent, numbered from 1."""
    made = []
    for number in range(1, 4):
        path = folder / f"{number}.dcm"
        path.write_bytes(part10(ct_slice(number)))
        made.append(Outgoing(number, CT, path))
    return made

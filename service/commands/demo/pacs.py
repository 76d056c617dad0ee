"""The other side of the wire for the demo: a small receiving PACS and a sending modality."""

import threading
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, StoragePresentationContexts, evt

from mirv.analysis.errors import PeerRefused
from mirv.config.settings.network import Destination
from mirv.service.peers.association import Proposal, associated
from mirv.service.peers.statuses import CLASS_NOT_SUPPORTED, SUCCESS


class ReceivingPacs:
    """A storage SCP that keeps what it is sent as files named by arrival.

    Parameters
    ----------
    folder : Path
        Made when missing.
    port : int
        On loopback.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.ae_title = "DEMOPACS"
        self._port = port
        self._lock = threading.Lock()
        self._received: list[Path] = []
        self._ae = AE(self.ae_title)
        for context in StoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)

    @property
    def received(self) -> tuple[Path, ...]:
        """Files so far, in order of arrival."""
        with self._lock:
            return tuple(self._received)

    def start(self) -> None:
        """Listen in a thread."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ae.start_server(
            ("127.0.0.1", self._port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._keep)],
        )

    def stop(self) -> None:
        """Stop listening."""
        self._ae.shutdown()

    def _keep(self, event: evt.Event) -> int:
        with self._lock:
            path = self.folder / f"{len(self._received) + 1:04d}.dcm"
            path.write_bytes(event.encoded_dataset())
            self._received.append(path)
        return SUCCESS


def send_files(paths: Sequence[Path], port: int, called: str, calling: str = "DEMOSCU") -> None:
    """Send DICOM files to an SCP on loopback over one association.

    Raises
    ------
    NoAssociation
    PeerRefused
        An object was not stored.
    """
    datasets = [dcmread(path) for path in paths]
    classes = sorted({(ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.TransferSyntaxUID)
                      for ds in datasets})  # fmt: skip
    peer = Destination(name="demo", ae_title=called, host="127.0.0.1", port=port)
    proposal = Proposal([(sop_class, (syntax,)) for sop_class, syntax in classes])
    with associated(peer, calling, proposal) as association:
        for dataset in datasets:
            status = association.send_c_store(dataset).get("Status", CLASS_NOT_SUPPORTED)
            if status != SUCCESS:
                raise PeerRefused(status, f"C-STORE to {called}")

"""TLS contexts after BCP 195: version 1.2 at least; over DICOM a certificate from either side."""

import ssl
from pathlib import Path

from mirv.config.settings.network import Tls, WebAccess


def server_context(settings: Tls) -> ssl.SSLContext:
    """For the listener: a peer without a certificate we trust gets no association.

    Raises
    ------
    OSError
        A file is missing or holds no usable certificate or key.
    """
    return _mutual(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), settings)


def client_context(settings: Tls) -> ssl.SSLContext:
    """For associations we ask for: the peer's certificate must be trusted and name its host.

    Raises
    ------
    OSError
        As above.
    """
    return _mutual(ssl.create_default_context(ssl.Purpose.SERVER_AUTH), settings)


def web_context(peer: WebAccess) -> ssl.SSLContext:
    """For peers spoken to over HTTP: our own certificate is shown where the settings name one.

    Raises
    ------
    OSError
        As above.
    """
    context = ssl.create_default_context(cafile=peer.trusted)
    return _ours(context, peer.certificate, peer.key)


def _mutual(context: ssl.SSLContext, settings: Tls) -> ssl.SSLContext:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(settings.trusted)
    return _ours(context, settings.certificate, settings.key)


def _ours(context: ssl.SSLContext, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context

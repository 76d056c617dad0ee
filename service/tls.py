"""TLS contexts after BCP 195: version 1.2 at least, a certificate from either side."""

import ssl

from config.settings import Tls


def server_context(wanted: Tls) -> ssl.SSLContext:
    """For the listener: a peer without a certificate we trust gets no association.

    Raises
    ------
    OSError
        A file is missing or holds no usable certificate or key.
    """
    return _with_identity(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), wanted)


def client_context(wanted: Tls) -> ssl.SSLContext:
    """For the sender: the destination's certificate must be trusted and name its host."""
    return _with_identity(ssl.create_default_context(ssl.Purpose.SERVER_AUTH), wanted)


def _with_identity(context: ssl.SSLContext, wanted: Tls) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(wanted.trusted)
    context.load_cert_chain(wanted.certificate, wanted.key)
    return context

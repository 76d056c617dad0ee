"""Certificates for tests, made by openssl: an authority and who it vouches for."""

import subprocess
from pathlib import Path

from mirv.config.settings.network import Tls


def authority(folder: Path, name: str = "authority") -> Path:
    """Make a certificate authority; the path of its certificate (its key lies beside it)."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate = folder / f"{name}.pem"
    _openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", certificate.with_suffix(".key"), "-out", certificate,
    )  # fmt: skip
    return certificate


def identity(issuer: Path, name: str) -> Tls:
    """Make a certificate for 127.0.0.1 signed by the authority, which is also who is trusted."""
    key, request = issuer.with_name(f"{name}.key"), issuer.with_name(f"{name}.csr")
    certificate = issuer.with_name(f"{name}.pem")
    extensions = issuer.with_name(f"{name}.ext")
    extensions.write_text("subjectAltName=IP:127.0.0.1\n", encoding="ascii")
    _openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
        "-keyout", key, "-out", request,
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", request, "-CA", issuer, "-CAkey", issuer.with_suffix(".key"),
        "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate,
    )  # fmt: skip
    return Tls(certificate=certificate, key=key, trusted=issuer)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

"""Throw-away credentials for a deployment on this machine: an authority, a certificate, keys."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

_VALID = timedelta(days=2)


@dataclass(frozen=True)
class ServerCredentials:
    """Files of a SuperLink that serves 127.0.0.1 and localhost over TLS."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def create(cls, folder: Path) -> ServerCredentials:
        """Make an authority and let it sign a certificate; the authority's key is forgotten."""
        files = cls(folder / "ca.crt", folder / "server.pem", folder / "server.key")
        authority_key, key = _key(), _key()
        authority = _certificate("mpfl test authority", authority_key.public_key(), None)
        signed = authority.sign(authority_key, hashes.SHA256())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        leaf = (
            _certificate("127.0.0.1", key.public_key(), signed.subject)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        files.authority.write_bytes(signed.public_bytes(Encoding.PEM))
        files.certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
        _write_secret(files.key, key, PrivateFormat.PKCS8)
        return files


def create_node_key(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a SuperNode's key pair, as ``ssh-keygen -t ecdsa -b 384`` does: (private, public)."""
    key = _key()
    private, public = folder / name, folder / f"{name}.pub"
    _write_secret(private, key, PrivateFormat.OpenSSH)
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return private, public


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _write_secret(path: Path, key: ec.EllipticCurvePrivateKey, form: PrivateFormat) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name | None
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )

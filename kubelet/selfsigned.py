"""A serving certificate of the kubelet's own making, for when it was given none."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

_LIFE = timedelta(days=365)


def serving_certificate(folder: Path, node_name: str, addresses: Iterable[str]) -> tuple[str, str]:
    """Paths of a certificate and its key in `folder`, made anew where they are missing, torn, or have less than a month to live."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import NameOID

    cert_path, key_path = folder / "kubelet.crt", folder / "kubelet.key"
    now = datetime.now(UTC)
    try:
        held = x509.load_pem_x509_certificate(cert_path.read_bytes())
        same = load_pem_private_key(key_path.read_bytes(), None).public_key() == held.public_key()
        if same and held.not_valid_after_utc - now > timedelta(days=30):
            return str(cert_path), str(key_path)
    except (FileNotFoundError, ValueError):
        pass  # None yet, or torn ones.
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{node_name}-ca@{int(now.timestamp())}")])
    names: list[x509.GeneralName] = [x509.DNSName(node_name)]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_path.unlink(missing_ok=True)
    key_path.touch(0o600)
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(cert_path), str(key_path)

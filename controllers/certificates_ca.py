"""The authority that signs requests: from files, read when the first certificate is wanted."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

from kubeling.controllers.certificates_plan import BACKDATE, Unfit

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_PURPOSES = {
    "any": Purpose.ANY_EXTENDED_KEY_USAGE,
    "server auth": Purpose.SERVER_AUTH,
    "client auth": Purpose.CLIENT_AUTH,
    "code signing": Purpose.CODE_SIGNING,
    "email protection": Purpose.EMAIL_PROTECTION,
    "s/mime": Purpose.EMAIL_PROTECTION,
    "timestamping": Purpose.TIME_STAMPING,
    "ocsp signing": Purpose.OCSP_SIGNING,
}


class Authority:
    """A certificate with its key. Raises ValueError where they are none, or of a kind that cannot sign."""

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate = x509.load_pem_x509_certificate(certificate.encode())
        found = serialization.load_pem_private_key(key.encode(), None)
        if not isinstance(found, (EllipticCurvePrivateKey, RSAPrivateKey, Ed25519PrivateKey)):
            raise ValueError(
                "--cluster-signing-key-file has no key that signs certificates: use an RSA, elliptic curve or Ed25519 key"
            )
        self._key = found

    def sign(self, request: x509.CertificateSigningRequest, usages: list[str], valid: timedelta, now: datetime) -> bytes:
        """The certificate in PEM. Raises Unfit where it could not be valid."""
        end = min(now + valid, self._certificate.not_valid_after_utc)
        if end <= now:
            raise Unfit("refusing to sign a certificate that expired in the past")
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(self._authority_id(), critical=False)
        )
        bits = {_KEY_USAGES[each] for each in usages if each in _KEY_USAGES}
        purposes = [_PURPOSES[each] for each in usages if each in _PURPOSES]
        if bits:
            # The last two say something only beside key agreement.
            narrow = {"encipher_only", "decipher_only"} if "key_agreement" not in bits else set()
            builder = builder.add_extension(
                x509.KeyUsage(**{name: name in bits - narrow for name in dict.fromkeys(_KEY_USAGES.values())}), critical=True
            )
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(dict.fromkeys(purposes))), critical=False)
        try:
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(names.value, critical=names.critical)
        except x509.ExtensionNotFound:
            pass
        algorithm = None if isinstance(self._key, Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(self._key, algorithm).public_bytes(serialization.Encoding.PEM)

    def _authority_id(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

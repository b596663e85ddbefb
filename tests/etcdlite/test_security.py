"""TLS: clients and members show certificates, and a stranger on the peer port gets nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import struct
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubeling.proto import etcd_pb2 as pb
from kubeling.proto import etcd_pb2_grpc as rpc

from .members import leader_of, single, trio

pytestmark = pytest.mark.live


class Authority:
    """A CA that writes certificates for 127.0.0.1 into a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory / name
        self._directory.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._write("ca", self._sign(self._name, self._key, ca=True), self._key)

    def issue(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, self._sign(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key, ca=False), key)

    def path(self, name: str, kind: str = "crt") -> str:
        return str(self._directory / f"{name}.{kind}")

    def read(self, name: str, kind: str = "crt") -> bytes:
        return (self._directory / f"{name}.{kind}").read_bytes()

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=1))
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return builder.add_extension(names, critical=False).sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        pem = serialization.Encoding.PEM
        (self._directory / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self._directory / f"{name}.key").write_bytes(private)


async def conversation(port: int, context: ssl.SSLContext | None, words: bytes) -> bytes:
    """What the peer port says to somebody; empty where it only hangs up."""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(words)
            answer = await reader.read(100)
            writer.close()
            return answer
    except (OSError, ssl.SSLError):
        return b""


async def test_members_trust_only_their_own_authority(tmp_path: Path) -> None:
    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    ours.issue("member")
    foreign.issue("member")
    flags = [
        f"--peer-cert-file={ours.path('member')}",
        f"--peer-key-file={ours.path('member', 'key')}",
        f"--peer-trusted-ca-file={ours.path('ca')}",
        "--peer-client-cert-auth",
    ]
    async with trio(tmp_path, *flags, scheme="https") as members:
        await leader_of(members)
        await members[0].put(b"k", b"v")
        assert [await member.get(b"k") for member in members] == [b"v"] * 3
        port = members[0].peer_port
        anonymous = ssl.create_default_context(cafile=ours.path("ca"))
        stranger = ssl.create_default_context(cafile=ours.path("ca"))
        stranger.load_cert_chain(foreign.path("member"), foreign.path("member", "key"))
        hello = struct.pack(">I8sQQQ", 32, b"kledpr02", 1, 2, 3)
        for context in (None, anonymous, stranger):
            answer = await conversation(port, context, hello)
            # Without TLS an alert may come back, and nothing else.
            assert answer == b"" or answer[:1] == b"\x15"
        # A certificate of ours is not enough: cluster and member must be right too.
        insider = ssl.create_default_context(cafile=ours.path("ca"))
        insider.load_cert_chain(ours.path("member"), ours.path("member", "key"))
        assert await conversation(port, insider, hello) == b""
        assert "belongs to another cluster" in members[0].log
        await members[0].put(b"k", b"still")


async def test_noise_on_a_plain_peer_port_is_refused(tmp_path: Path) -> None:
    async with trio(tmp_path) as members:
        port = members[0].peer_port
        for words in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x00\x00\x00\x04\x80\x04N.",
            b"\xff" * 5000,
            struct.pack(">I", 3000) + b"x" * 3000,
        ):
            assert await conversation(port, None, words) == b""
        await members[0].put(b"k", b"v")


async def test_clients_show_a_certificate(tmp_path: Path) -> None:
    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    ours.issue("client")
    foreign.issue("client")
    flags = [
        f"--cert-file={ours.path('client')}",
        f"--key-file={ours.path('client', 'key')}",
        f"--trusted-ca-file={ours.path('ca')}",
        "--client-cert-auth=true",
    ]
    async with single(tmp_path) as plain:
        await plain.kill()
        await plain.launch(*flags, f"--listen-client-urls=https://{plain.endpoint}")

        async def get(authority: Authority | None) -> str:
            chain = (authority.read("client", "key"), authority.read("client")) if authority else (None, None)
            credentials = grpc.ssl_channel_credentials(ours.read("ca"), *chain)
            async with grpc.aio.secure_channel(plain.endpoint, credentials) as channel:
                try:
                    # Only the right one may wait for the start of the process.
                    request = pb.RangeRequest(key=b"k")
                    await rpc.KVStub(channel).Range(request, timeout=10, wait_for_ready=authority is ours)
                    return "OK"
                except grpc.aio.AioRpcError as error:
                    return error.code().name

        assert await get(ours) == "OK"
        assert await get(foreign) == "UNAVAILABLE"
        assert await get(None) == "UNAVAILABLE"


async def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    ours.issue("server")
    flags = [f"--cert-file={ours.path('server')}", f"--key-file={ours.path('server', 'key')}"]

    async def shown(port: int) -> bytes:
        context = ssl.create_default_context(cafile=ours.path("ca"))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(certificate)

    async with single(tmp_path) as member:
        await member.kill()
        await member.launch(*flags, f"--listen-client-urls=https://{member.endpoint}")
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    before = await shown(member.port)
                    break
                await asyncio.sleep(0.05)
        assert await shown(member.port) == before
        key = Path(ours.path("server", "key"))
        old = key.read_bytes()
        ours.issue("server")
        new, whole = key.read_bytes(), Path(ours.path("server")).read_bytes()
        # The new certificate with the old key: somebody is still writing.
        key.write_bytes(old)
        assert await shown(member.port) == before
        key.write_bytes(new)
        after = await shown(member.port)
        assert after != before
        assert ssl.PEM_cert_to_DER_cert(whole.decode()) == after

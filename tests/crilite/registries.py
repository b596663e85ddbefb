"""A real registry (docker-registry), what to put into it, and a proxy before it that misbehaves."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import bcrypt
import jwt
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeling.linux import netns
from tests.crilite import archives


def certificate(folder: Path, *addresses: str) -> tuple[Path, Path]:
    """A self-signed certificate for `addresses`, and its key."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(9))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return cert_path, key_path


class Registry:
    """docker-registry in the network namespace at `where`; `auth` is its configuration's section of that name."""

    def __init__(self, folder: Path, where: str, address: str, *, tls: bool = False, auth: dict[str, Any] | None = None) -> None:
        folder.mkdir()
        self.where = where
        self.tls = tls
        with netns.inside(where, lambda: socket.create_server((address, 0))) as probe:
            self.name = f"{address}:{probe.getsockname()[1]}"
        self.cert, key = certificate(folder, address)
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.name},
        }
        if tls:
            config["http"]["tls"] = {"certificate": str(self.cert), "key": str(key)}
        if auth:
            config["auth"] = auth
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        self.log = open(folder / "log", "wb")  # noqa: SIM115 - closed with the registry
        self.process = subprocess.Popen(
            ["nsenter", f"--net={where}", "docker-registry", "serve", str(folder / "config.yml")],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                self.call("GET", "/v2/")
                break
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str]]:
        def ask() -> tuple[int, dict[str, str]]:
            import ssl

            context = ssl.create_default_context(cafile=str(self.cert))
            link = http.client.HTTPSConnection(self.name, context=context) if self.tls else http.client.HTTPConnection(self.name)
            try:
                link.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
                answer = link.getresponse()
                answer.read()
                return answer.status, {key.lower(): value for key, value in answer.getheaders()}
            finally:
                link.close()

        return netns.inside(self.where, ask)

    def push(self, repository: str, tag: str, manifest: bytes, blobs: list[bytes], **headers: str) -> str:
        """Put an image there; the digest of its manifest."""
        for blob in blobs:
            status, answer = self.call("POST", f"/v2/{repository}/blobs/uploads/", **headers)
            assert status == 202, status
            parts = urlsplit(answer["location"])
            path = f"{parts.path}?{parts.query}&digest={archives.digest(blob)}"
            assert self.call("PUT", path, blob, Content_Type="application/octet-stream", **headers)[0] == 201
        kind = json.loads(manifest)["mediaType"]
        status, _ = self.call("PUT", f"/v2/{repository}/manifests/{tag}", manifest, Content_Type=kind, **headers)
        assert status == 201, status
        return archives.digest(manifest)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def htpasswd(path: Path, user: str, password: str) -> dict[str, Any]:
    """The registry's `auth` section for one user."""
    path.write_text(f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n")
    return {"htpasswd": {"realm": "test", "path": str(path)}}


class Server:
    """A threaded HTTP server in a network namespace whose GETs are answered by `handle`."""

    def __init__(self, where: str, handle: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    handle(self)

            def log_message(self, *args: Any) -> None:
                return None

        self._server = netns.inside(where, lambda: ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self._server.daemon_threads = True
        self.name = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class TokenService:
    """What a registry with `auth: token` sends clients to: tokens for one user, and for nobody else."""

    def __init__(self, folder: Path, where: str, user: str, password: str) -> None:
        folder.mkdir()
        cert, key = certificate(folder, "127.0.0.1")
        self._chain = [
            base64.b64encode(x509.load_pem_x509_certificate(cert.read_bytes()).public_bytes(serialization.Encoding.DER)).decode()
        ]
        self._key = key.read_bytes()
        self._wanted = basic(user, password)
        self.issued = 0
        #: Seconds that a token is good for.
        self.life = 300
        self._server = Server(where, self._handle)
        self.auth = {
            "token": {
                "realm": f"http://{self._server.name}/token",
                "service": "test",
                "issuer": "test",
                "rootcertbundle": str(cert),
            }
        }

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        good = request.headers.get("Authorization") == self._wanted
        body = b"{}"
        if good:
            self.issued += 1
            scope = parse_qs(urlsplit(request.path).query).get("scope", [""])[0]
            body = json.dumps({"token": self.token(scope)}).encode()
        request.send_response(200 if good else 401)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def token(self, scope: str) -> str:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        now = int(time.time())
        claims = {
            "iss": "test", "sub": "me", "aud": "test", "exp": now + self.life, "nbf": now - 5, "iat": now, "jti": str(self.issued),
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}] if name else [],
        }  # fmt: skip
        return jwt.encode(claims, self._key, "ES256", headers={"x5c": self._chain})

    def close(self) -> None:
        self._server.close()


class Proxy:
    """Between the runtime and the registry. `mode`: honest, breaking (ends every download of a blob after `bytes` bytes), lying (changes a
    byte in blobs), stalling (sends `bytes` bytes of a blob and then nothing), slow (a little at a time)."""

    def __init__(self, where: str, behind: str) -> None:
        self._where, self._behind = where, behind
        self.mode, self.bytes = "honest", 0
        #: (path, Range) of every request for a blob.
        self.asked: list[tuple[str, str]] = []
        #: How many downloads were under way at once, at most.
        self.most = self._now = 0
        self._lock = threading.Lock()
        self.released = threading.Event()
        self._server = Server(where, self._handle)
        self.name = self._server.name

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        link = http.client.HTTPConnection(self._behind)
        netns.inside(self._where, link.connect)
        try:
            names = ("Range", "Accept", "Authorization")
            headers = {name: request.headers[name] for name in names if request.headers.get(name)}
            link.request("GET", request.path, headers=headers)
            answer = link.getresponse()
            data = answer.read()
        finally:
            link.close()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                request.send_header(name, value)
        request.end_headers()
        if "/blobs/" not in request.path or answer.status >= 400:
            request.wfile.write(data)
            return
        with self._lock:
            self.asked.append((request.path, request.headers.get("Range", "")))
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            self._send(request, data)
        finally:
            with self._lock:
                self._now -= 1

    def _send(self, request: BaseHTTPRequestHandler, data: bytes) -> None:
        out = request.wfile
        if self.mode == "lying":
            out.write(bytes([data[0] ^ 1]) + data[1:])
        elif self.mode in ("breaking", "stalling") and len(data) > self.bytes:
            out.write(data[: self.bytes])
            out.flush()
            if self.mode == "stalling":
                self.released.wait(30)
            request.close_connection = True
        elif self.mode == "slow":
            step = max(1, len(data) // 20)
            for start in range(0, len(data), step):
                out.write(data[start : start + step])
                out.flush()
                time.sleep(0.02)
        else:
            out.write(data)

    def close(self) -> None:
        self.released.set()
        self._server.close()


def sign(
    registry: Registry, repository: str, digest: str, key: ec.EllipticCurvePrivateKey, *, says: str = "", identity: str = ""
) -> None:
    """Put a signature of `digest` beside the image, as `cosign sign --key` does. `says`: the digest that the payload speaks of, if another."""
    critical = {
        "identity": {"docker-reference": identity or f"{registry.name}/{repository}"},
        "image": {"docker-manifest-digest": says or digest},
        "type": "cosign container image signature",
    }
    payload = json.dumps({"critical": critical, "optional": None}).encode()
    signature = key.sign(payload, ec.ECDSA(hashes.SHA256()))
    config = b'{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": archives.digest(config), "size": len(config)
        },
        "layers": [
            {
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "digest": archives.digest(payload),
                "size": len(payload),
                "annotations": {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()},
            }
        ],
    }  # fmt: skip
    registry.push(repository, digest.replace(":", "-") + ".sig", json.dumps(manifest).encode(), [config, payload])


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

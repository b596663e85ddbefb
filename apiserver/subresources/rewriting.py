"""Pages of a proxied server, seen from outside: redirects and the links of HTML pages get the proxy's path before their own.

A link is changed where it points at the server itself: absolute paths, and URLs with the server's host. The same places in a page as with upstream are looked at.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from html import escape, unescape
from posixpath import normpath
from urllib.parse import urlsplit, urlunsplit

from kubeling.apiserver.reverse import Header

#: Attributes that are links, by element.
_LINKS: dict[str, frozenset[str]] = {
    tag: frozenset(names.split())
    for tag, names in {
        "a": "href",
        "applet": "codebase",
        "area": "href",
        "audio": "src",
        "base": "href",
        "blockquote": "cite",
        "body": "background",
        "button": "formaction",
        "command": "icon",
        "del": "cite",
        "embed": "src",
        "form": "action",
        "frame": "longdesc src",
        "head": "profile",
        "html": "manifest",
        "iframe": "longdesc src",
        "img": "longdesc src usemap",
        "input": "formaction src usemap",
        "ins": "cite",
        "link": "href",
        "object": "classid codebase data usemap",
        "q": "cite",
        "script": "src",
        "source": "src",
        "video": "poster src",
    }.items()
}
_TAG = re.compile(r"<([a-zA-Z][a-zA-Z0-9]*)((?:\s[^<>]*)?)>")
_ATTRIBUTE = re.compile(r"""(\s)([a-zA-Z-]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)""")
#: A tag that is longer is not looked at.
_MAX_TAG = 64 * 1024


@dataclass(frozen=True, slots=True)
class Rewriter:
    """`prefix` is the proxy's path up to the backend's; `hosts` are the names under which the backend knows itself."""

    prefix: str
    hosts: frozenset[str]

    def url(self, text: str) -> str:
        """A link as it is to be seen from outside."""
        try:
            parts = urlsplit(text.strip())
        except ValueError:
            return text
        if (parts.netloc and parts.netloc not in self.hosts) or not parts.path.startswith("/"):
            return text
        path = parts.path
        if not path.startswith(self.prefix):
            path = normpath(self.prefix + "/" + path.lstrip("/"))
            if parts.path.endswith("/"):
                path += "/"
        return urlunsplit(("", "", path, parts.query, parts.fragment))

    def response(self, status: int, headers: list[Header]) -> tuple[list[Header], Callable[[bytes | None], bytes] | None]:
        """A :data:`kubeling.apiserver.reverse.Filter`."""
        location = next((value for name, value in headers if name == b"location"), b"")
        if location:
            changed = self.url(location.decode("latin-1")).encode("latin-1", "ignore")
            return [(name, changed if name == b"location" else value) for name, value in headers], None
        kinds = dict(headers)
        coding = kinds.get(b"content-encoding", b"").strip().lower()
        if kinds.get(b"content-type", b"").partition(b";")[0].strip() != b"text/html" or coding not in (
            b"",
            b"identity",
            b"gzip",
        ):
            return headers, None
        page = Page(self, coding == b"gzip")
        return [each for each in headers if each[0] != b"content-length"], page.feed


class Page:
    """An HTML page on its way."""

    def __init__(self, rewriter: Rewriter, packed: bool) -> None:
        self._rewriter = rewriter
        self._unpack = zlib.decompressobj(31) if packed else None
        self._pack = zlib.compressobj(wbits=31) if packed else None
        self._held = ""

    def feed(self, data: bytes | None) -> bytes:
        """Some of the page in, some of the changed page out; None is its end. Bytes that are no ASCII pass as they are."""
        if data is not None and self._unpack is not None:
            data = self._unpack.decompress(data)
        text = self._held + (data.decode("latin-1") if data else "")
        cut = len(text)
        opened = text.rfind("<")
        if data is not None and opened > text.rfind(">") and cut - opened < _MAX_TAG:
            cut = opened
        self._held = text[cut:]
        done = _TAG.sub(self._tag, text[:cut]).encode("latin-1", "xmlcharrefreplace")
        if self._pack is None:
            return done
        return self._pack.compress(done) + (self._pack.flush() if data is None else self._pack.flush(zlib.Z_SYNC_FLUSH))

    def _tag(self, match: re.Match[str]) -> str:
        links = _LINKS.get(match[1].lower())
        if links is None or not match[2]:
            return match[0]

        def attribute(found: re.Match[str]) -> str:
            if found[2].lower() not in links:
                return found[0]
            quoted = found[4]
            mark = quoted[0] if quoted[0] in "\"'" else ""
            value = unescape(quoted[1:-1] if mark else quoted)
            return (
                f"{found[1]}{found[2]}{found[3]}{mark or chr(34)}{escape(self._rewriter.url(value), quote=True)}{mark or chr(34)}"
            )

        return f"<{match[1]}{_ATTRIBUTE.sub(attribute, match[2])}>"

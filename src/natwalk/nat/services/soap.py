"""SOAP as UPnP control uses it: one action with text arguments in an envelope."""

from __future__ import annotations

from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

ENVELOPE: Final = "http://schemas.xmlsoap.org/soap/envelope/"
CONTROL: Final = "urn:schemas-upnp-org:control-1-0"
ARGUMENTS: Final = 32
"""Arguments of one action, and elements nested in each other; more is refused."""
LONGEST_VALUE: Final = 1024
"""Characters of one argument."""


class MalformedSoap(Exception):
    """A body that is no action."""


def parse_action(body: bytes) -> tuple[str, str, dict[str, str]]:
    """(service type, action, arguments by name) of an envelope; raises :class:`MalformedSoap`.

    A document type is refused, so there are no entities to expand.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise MalformedSoap(str(error)) from None
    if reader.action is None:
        raise MalformedSoap("no action in the body")
    return reader.service, reader.action, reader.arguments


class _Reader:
    """Follows the parser: Envelope, Body, action, arguments."""

    def __init__(self) -> None:
        self.service = ""
        self.action: str | None = None
        self.arguments: dict[str, str] = {}
        self._path: list[str] = []
        self._text = ""

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._path.append(name)
        if len(self._path) > ARGUMENTS or len(self.arguments) > ARGUMENTS:
            raise MalformedSoap("too many elements")
        self._text = ""
        if len(self._path) == 3 and self._path[:2] == [f"{ENVELOPE} Envelope", f"{ENVELOPE} Body"]:
            self.service, _, action = name.rpartition(" ")
            if self.action is None:
                self.action = action

    def text(self, data: str) -> None:
        self._text += data
        if len(self._text) > LONGEST_VALUE:
            raise MalformedSoap("an argument is too long")

    def end(self, name: str) -> None:
        if len(self._path) == 4 and self.action is not None:
            self.arguments.setdefault(name.rpartition(" ")[2], self._text.strip())
        self._path.pop()
        self._text = ""

    def doctype(self, *_: object) -> None:
        raise MalformedSoap("a document type")


def answer(service: str, action: str, results: dict[str, str]) -> bytes:
    """The envelope of what an action gave."""
    values = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in results.items())
    return _envelope(f'<u:{action}Response xmlns:u="{escape(service)}">{values}</u:{action}Response>')


def fault(code: int, description: str) -> bytes:
    """The envelope of a UPnP error."""
    return _envelope(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
        f'<UPnPError xmlns="{CONTROL}"><errorCode>{code}</errorCode>'
        f"<errorDescription>{escape(description)}</errorDescription></UPnPError></detail></s:Fault>"
    )


def _envelope(body: str) -> bytes:
    return (
        '<?xml version="1.0"?>\r\n'
        f'<s:Envelope xmlns:s="{ENVELOPE}" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f"<s:Body>{body}</s:Body></s:Envelope>\r\n"
    ).encode()

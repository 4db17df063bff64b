"""Does a TURN server do what a browser needs of it? Tried from here, step by step, with the reason when not.

Each address and transport that a URI leads to is tried with two allocations that talk to each other through
the server: reach, certificate, authentication, relayed address, permission, round trip, throughput.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509

from natwalk.aio.client_tls import CertificateMismatch, ClientTls
from natwalk.aio.resolve import resolve
from natwalk.aio.turn_allocation import RelayLost, TurnAllocation
from natwalk.core import (
    ErrorResponse,
    IPAddress,
    NatError,
    Reach,
    RemoteProtocolError,
    TransactionTimeout,
    Transport,
    reach,
)
from natwalk.stun.resolution import ServerEndpoint
from natwalk.turn import AllocationOptions, Credentials

_EXPIRES_SOON: Final = 14 * 86_400.0
_ROUND_TRIPS: Final = 5
_ANSWER_WITHIN: Final = 1.0
_DATAGRAM: Final = 1200
_FIRST_WINDOW: Final = 4
_LARGEST_WINDOW: Final = 128
_STALLED_AFTER: Final = 0.02
_SECURE: Final = frozenset({Transport.TLS, Transport.DTLS})


class Step(StrEnum):
    """What is tried, in this order; what follows a failure is not tried any more."""

    REACH = "reach"
    CERTIFICATE = "certificate"
    AUTHENTICATION = "authentication"
    RELAY = "relay"
    PERMISSION = "permission"
    ROUND_TRIP = "round trip"
    THROUGHPUT = "throughput"


@dataclass(frozen=True, slots=True)
class Check:
    """How one step went; ``value``: ms (reach, authentication, round trip), days (certificate), Mbit/s."""

    step: Step
    ok: bool
    detail: str
    hint: str = ""
    value: float | None = None


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """All checks of one address and transport."""

    endpoint: ServerEndpoint
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was tried works."""
        return all(check.ok for check in self.checks)

    @property
    def needed(self) -> bool:
        """Whether browsers would use it: they have no DTLS towards TURN servers."""
        return self.endpoint.transport is not Transport.DTLS


@dataclass(frozen=True, slots=True)
class ServerReport:
    """Everything about one URI; ``problem`` when it led nowhere."""

    uri: str
    endpoints: tuple[EndpointReport, ...] = ()
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether a browser could relay by it: an address works, or none is for browsers."""
        needed = [each for each in self.endpoints if each.needed]
        return not self.problem and (any(each.ok for each in needed) or not needed)


class _Stop(Exception):
    """A step failed; there is no use in the next ones."""


async def examine(
    uri: str,
    credentials: Credentials,
    *,
    tls: ClientTls | None = None,
    within: float = 10.0,
    seconds: float = 1.0,
    on_check: Callable[[ServerEndpoint, Check], None] | None = None,
) -> ServerReport:
    """Try the TURN server that ``uri`` names, over each transport and address it leads to.

    A step may take ``within`` seconds; throughput is measured for ``seconds``, 0 for not at all.
    ``on_check`` hears of each step when it is done. What fails is in the report, never raised.
    """
    try:
        endpoints = await resolve(uri)
    except NatError as error:
        return ServerReport(uri, problem=str(error))
    reports = []
    for endpoint in endpoints:
        examination = _Examination(endpoint, credentials, tls or ClientTls(), within, seconds, on_check)
        reports.append(EndpointReport(endpoint, await examination.run()))
    return ServerReport(uri, tuple(reports))


class _Examination:
    def __init__(
        self,
        endpoint: ServerEndpoint,
        credentials: Credentials,
        tls: ClientTls,
        within: float,
        seconds: float,
        on_check: Callable[[ServerEndpoint, Check], None] | None,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._tls = tls
        self._within = within
        self._seconds = seconds
        self._on_check = on_check
        self._checks: list[Check] = []
        self._loop = asyncio.get_running_loop()

    async def run(self) -> tuple[Check, ...]:
        """All the steps, up to the first that fails."""
        opened: list[TurnAllocation] = []
        try:
            here = await self._open()
            opened.append(here)
            self._judge_relay(here)
            there = await self._open_second()
            opened.append(there)
            await self._permission(here, there)
            round_trip = await self._round_trip(here, there)
            if self._seconds > 0:
                await self._throughput(here, there, round_trip)
        except _Stop:
            pass
        except RelayLost as lost:
            self._note(Step.ROUND_TRIP, False, f"the server took the allocation back: {lost}")
        finally:
            for allocation in opened:
                await allocation.close()
        return tuple(self._checks)

    def _note(self, step: Step, ok: bool, detail: str, *, hint: str = "", value: float | None = None) -> None:
        check = Check(step, ok, detail, "" if ok and value is None else hint, value)
        self._checks.append(check)
        if self._on_check is not None:
            self._on_check(self._endpoint, check)

    def _fail(self, step: Step, detail: str, hint: str = "") -> _Stop:
        self._note(step, False, detail, hint=hint)
        return _Stop()

    async def _open(self) -> TurnAllocation:
        started = self._loop.time()
        try:
            allocation = await self._allocate()
        except ErrorResponse as refusal:
            self._note(Step.REACH, True, "answers", value=_ms(self._loop.time() - started))
            raise self._refused(refusal) from None
        except (NatError, OSError) as error:
            raise self._unreachable(error) from None
        took = _ms(self._loop.time() - started)
        self._note(Step.REACH, True, "answers", value=took)
        if allocation.certificate is not None:
            try:
                self._judge_certificate(allocation.certificate)
            except _Stop:
                await allocation.close()
                raise
        self._note(Step.AUTHENTICATION, True, "accepted", value=took)
        return allocation

    async def _allocate(self) -> TurnAllocation:
        options = AllocationOptions(family=6 if self._endpoint.address.version == 6 else None)
        try:
            async with asyncio.timeout(self._within):
                return await TurnAllocation.open(
                    self._endpoint, self._credentials, options=options, tls=self._tls
                )
        except TransactionTimeout:
            raise
        except TimeoutError:
            raise TransactionTimeout(f"no answer within {self._within:g} s") from None

    async def _open_second(self) -> TurnAllocation:
        try:
            return await self._allocate()
        except (NatError, OSError) as error:
            hint = "A call between two people takes two allocations: raise the quota of this user."
            raise self._fail(Step.RELAY, f"a second allocation failed: {_text(error)}", hint) from None

    def _refused(self, refusal: ErrorResponse) -> _Stop:
        if refusal.code in _AUTHENTICATION_CODES:
            return self._fail(Step.AUTHENTICATION, _text(refusal), _AUTHENTICATION_CODES[refusal.code])
        self._note(Step.AUTHENTICATION, True, "accepted")
        return self._fail(Step.RELAY, str(refusal), _RELAY_CODES.get(refusal.code, ""))

    def _unreachable(self, error: Exception) -> _Stop:
        if isinstance(error, ssl.SSLCertVerificationError | CertificateMismatch) or _is_about_trust(error):
            self._note(Step.REACH, True, "answers")
            return self._fail(Step.CERTIFICATE, _text(error), _CERTIFICATE_HINT)
        if isinstance(error, RemoteProtocolError):
            self._note(Step.REACH, True, "answers")
            return self._fail(Step.RELAY, _text(error), "What answers may be no TURN server: check the port.")
        hint = _REACH_HINTS[self._endpoint.transport]
        return self._fail(Step.REACH, _text(error), hint.format(self._endpoint.address.port))

    def _judge_certificate(self, der: bytes) -> None:
        certificate = x509.load_der_x509_certificate(der)
        left = certificate.not_valid_after_utc.timestamp() - time.time()
        days = left / 86_400
        if left < 0:
            hint = "Renew it and reload the server."
            raise self._fail(Step.CERTIFICATE, f"expired {-days:.0f} days ago", hint)
        soon = left < _EXPIRES_SOON
        hint = "Renew it soon: browsers stop at its last day." if soon else ""
        self._note(Step.CERTIFICATE, True, f"{days:.0f} days left", hint=hint, value=round(days, 1))

    def _judge_relay(self, allocation: TurnAllocation) -> None:
        relayed = allocation.relayed
        if _is_out_of_reach(relayed.ip, self._endpoint.address.ip):
            hint = "The server is behind a NAT and does not know its public address: configure it."
            raise self._fail(Step.RELAY, f"{relayed}, which peers outside cannot reach", hint)
        self._note(Step.RELAY, True, str(relayed))

    async def _permission(self, here: TurnAllocation, there: TurnAllocation) -> None:
        for allocation, peer in ((here, there.relayed), (there, here.relayed)):
            allocation.create_permission([peer.ip])
            try:
                async with asyncio.timeout(self._within):
                    await allocation.settle()
            except TimeoutError:
                raise self._fail(Step.PERMISSION, "no answer from the server") from None
            denial = allocation.denials.get(peer.ip)
            if denial is not None:
                reason = f"{denial.code or ''} {denial.reason}".strip()
                hint = "Two people who both need the relay cannot talk: allow its own address as a peer."
                raise self._fail(Step.PERMISSION, f"refused for {peer.ip}: {reason}", hint)
        self._note(Step.PERMISSION, True, "granted")

    async def _round_trip(self, here: TurnAllocation, there: TurnAllocation) -> float:
        """Seconds there and back, the best of five."""
        times = []
        for n in range(_ROUND_TRIPS):
            started = self._loop.time()
            here.send(b"ping %d" % n, there.relayed)
            if await _echoed(here, there):
                times.append(self._loop.time() - started)
        if not times:
            hint = "Nothing passes between relay ports: check the server's firewall for their range."
            raise self._fail(Step.ROUND_TRIP, "nothing came back through the relay", hint)
        lost = _ROUND_TRIPS - len(times)
        detail = f"{_ms(min(times)):g} ms" + (f", {lost} of {_ROUND_TRIPS} lost" if lost else "")
        self._note(Step.ROUND_TRIP, True, detail, value=_ms(min(times)))
        return min(times)

    async def _throughput(self, here: TurnAllocation, there: TurnAllocation, round_trip: float) -> None:
        """Mbit/s from one relayed address to the other, by windows that grow until something is lost."""
        started = self._loop.time()
        stalled_after = max(_STALLED_AFTER, 4 * round_trip)
        received, window = 0, _FIRST_WINDOW
        while (left := started + self._seconds - self._loop.time()) > 0:
            for _ in range(window):
                here.send(bytes(_DATAGRAM), there.relayed)
            try:
                async with asyncio.timeout(min(stalled_after, left)):
                    for _ in range(window):
                        data, _ = await there.receive()
                        received += len(data)
            except TimeoutError:
                window = max(window // 2, 1)
            else:
                window = min(2 * window, _LARGEST_WINDOW)
        rate = received * 8 / (self._loop.time() - started) / 1e6
        self._note(Step.THROUGHPUT, received > 0, f"{rate:.1f} Mbit/s", value=round(rate, 1))


async def _echoed(here: TurnAllocation, there: TurnAllocation) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            data, peer = await there.receive()
            there.send(data, peer)
            answer, _ = await here.receive()
            return answer == data
    except TimeoutError:
        return False


def _is_out_of_reach(relayed: IPAddress, server: IPAddress) -> bool:
    """Whether a server reached at a public address relays from one that is none."""
    return reach(server) is Reach.GLOBAL and reach(relayed) is not Reach.GLOBAL


def _is_about_trust(error: Exception) -> bool:
    return "certificate verify failed" in str(error)


def _text(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0).lower()  # asyncio's own text is for programmers
    if isinstance(error, ErrorResponse):
        return f"refused with {error}"
    return str(error) or type(error).__name__


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


_AUTHENTICATION_CODES: Final = {
    401: "Check username and password; with a shared secret, also that both clocks are right.",
    438: "The server gives a new nonce each time: is there more than one server behind the address?",
    441: "The username belongs to another session: use the one the credentials were made for.",
}
_RELAY_CODES: Final = {
    300: "The server sends clients to another one: test that one.",
    403: "The server does not relay for this client at all.",
    437: "There is an allocation from this port already; try again in some minutes.",
    440: "The server has no relay address of this IP version: configure one, or leave IPv6 out of the DNS.",
    442: "The server relays no UDP: configure it.",
    486: "This user has too many allocations: wait, or raise the quota.",
    508: "The server is full or shutting down.",
}
_REACH_HINTS: Final = {
    Transport.UDP: "Is UDP port {} open in every firewall on the way?",
    Transport.TCP: "Is the server listening on TCP port {}, and is that open in every firewall on the way?",
    Transport.TLS: "Is the server listening for TLS on port {}? A URI with turns: needs a certificate there.",
    Transport.DTLS: "Is the server listening for DTLS on UDP port {}? Browsers do not need it.",
}
_CERTIFICATE_HINT: Final = (
    "Browsers refuse it: serve the full chain of a certificate for this very name, or give --ca-file."
)

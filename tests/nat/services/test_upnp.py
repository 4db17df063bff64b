"""UPnP on the router: SSDP searches, HTTP, SOAP, the actions of an Internet Gateway Device and its quirks."""

from __future__ import annotations

from contextlib import suppress
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.services.support import CLIENT, OTHER, OUTSIDE, PUBLIC, ROUTER, Router, value
from natwalk.core import Address, LocalProtocolError
from natwalk.nat import GatewayConfig, IpProtocol, Nat, NatConfig, Packet, ServiceQuirk
from natwalk.nat.services import Gateway, HttpRequest, soap
from natwalk.nat.services.description import ARGUMENTS, VARIABLES
from natwalk.nat.services.http import LONGEST_BODY, LONGEST_HEAD, BadRequest
from natwalk.nat.services.limits import RateLimit

EXTERNAL = Address(PUBLIC, 7000)
INTERNAL = Address(CLIENT.host, 7000)
DEVICE = "urn:schemas-upnp-org:device:InternetGatewayDevice:"


BODY = f'<e:Envelope xmlns:e="{soap.ENVELOPE}"><e:Body>{{}}</e:Body></e:Envelope>'


def search(target: str, mx: int = 2, man: str = '"ssdp:discover"') -> bytes:
    return (
        f"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: {man}\r\nMX: {mx}\r\nST: {target}\r\n\r\n"
    ).encode()


def get(path: str, host: str = f"{ROUTER}:5000", method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


class TestSsdp:
    @pytest.mark.parametrize("upnp", [1, 2])
    def test_a_search_finds_the_description(self, upnp: int) -> None:
        (answer,) = Router(upnp=upnp).ask(search(f"{DEVICE}{upnp}"), 1900)
        assert answer.source == Address(ROUTER, 1900)
        text = answer.payload.decode()
        assert text.startswith("HTTP/1.1 200 OK\r\n")
        assert f"LOCATION: http://{ROUTER}:5000/rootDesc.xml\r\n" in text
        assert f"ST: {DEVICE}{upnp}\r\n" in text
        assert text.endswith("\r\n\r\n")

    def test_version_2_is_found_as_version_1_too_and_not_the_other_way(self) -> None:
        (answer,) = Router(upnp=2).ask(search(f"{DEVICE}1"), 1900)
        assert f"ST: {DEVICE}1\r\n".encode() in answer.payload
        assert Router(upnp=1).ask(search(f"{DEVICE}2"), 1900) == []

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"M-SEARCH * HTTP/1.1",
            search("urn:schemas-upnp-org:device:MediaServer:1"),
            search("ssdp:all", man="ssdp:discover"),
            search("ssdp:all").replace(b"M-SEARCH", b"NOTIFY"),
            search("ssdp:all").replace(b"*", b"/"),
            search("ssdp:all") + bytes(4096),
            b"\xff" * 40,
        ],
    )
    def test_what_gets_no_answer(self, payload: bytes) -> None:
        assert Router().ask(payload, 1900) == []

    def test_searches_are_no_amplifier(self) -> None:
        """FAULTS 102: nothing beyond the LAN, each type once, all at a limited rate, MX unheeded."""
        router = Router(rate=1e9, burst=10**9)
        assert router.ask(search("ssdp:all"), 1900, OUTSIDE) == []
        answers = router.ask(search("ssdp:all", mx=1000), 1900)
        types = [a.payload.partition(b"ST: ")[2].partition(b"\r\n")[0] for a in answers]
        assert len(types) == len(set(types)) == 7
        flood = sum(len(router.ask(search("ssdp:all"), 1900, now=1.0 + n / 10_000)) for n in range(10_000))
        assert flood <= 10 + 10

    def test_the_group_is_listened_to(self) -> None:
        router = Router()
        packet = Packet(CLIENT, Address("239.255.255.250", 1900), search("upnp:rootdevice"))
        assert router.gateway.wants(packet)
        assert len(router.gateway.receive(packet, 1.0)) == 1
        assert not router.gateway.wants(packet._replace(destination=Address("203.0.113.1", 1900)))
        assert not router.gateway.wants(packet._replace(protocol=IpProtocol.TCP))
        assert router.gateway.receive(packet._replace(destination=Address(ROUTER, 99)), 1.0) == []

    def test_no_upnp_no_answer(self) -> None:
        assert Router(upnp=0).ask(search("ssdp:all"), 1900) == []
        assert Router(upnp=0).http(get("/rootDesc.xml"))[0] == 403


class TestHttp:
    def test_the_description_leads_to_the_service(self) -> None:
        status, body = Router().http(get("/rootDesc.xml"))
        assert status == 200
        root = ElementTree.fromstring(body)
        space = "{urn:schemas-upnp-org:device-1-0}"
        types = [each.text for each in root.iter(f"{space}deviceType")]
        assert types == [
            f"urn:schemas-upnp-org:device:{n}:1"
            for n in ("InternetGatewayDevice", "WANDevice", "WANConnectionDevice")
        ]
        assert [each.text for each in root.iter(f"{space}controlURL")] == ["/ctl/IPConn"]

    @pytest.mark.parametrize(("upnp", "any_port"), [(1, False), (2, True)])
    def test_the_service_names_its_actions(self, upnp: int, any_port: bool) -> None:
        _, body = Router(upnp=upnp).http(get("/WANIPCn.xml"))
        ElementTree.fromstring(body)
        assert b"<name>AddPortMapping</name>" in body
        assert (b"<name>AddAnyPortMapping</name>" in body) is any_port

    def test_every_action_is_described_with_the_arguments_it_gives(self) -> None:
        router = Router(upnp=2)
        assert set(router.gateway._igd.actions) == set(ARGUMENTS)
        router.add()
        wanted = {
            "NewExternalPort": 7000,
            "NewProtocol": "UDP",
            "NewPortMappingIndex": 0,
            "NewRemoteHost": "",
            "NewStartPort": 1,
            "NewEndPort": 65535,
            "NewManage": 0,
            "NewNumberOfPorts": 0,
        }
        for action, arguments in ARGUMENTS.items():
            assert all(variable in VARIABLES for _, _, variable in arguments)
            if action.startswith(("Get", "AddAny")):
                status, text = router.add(action=action, **wanted)
                given = [child.tag for child in ElementTree.fromstring(text)[0][0]]
                assert (status, given) == (200, [name for name, way, _ in arguments if way == "out"])

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (get("/etc/passwd"), 404),
            (get("/ctl/IPConn", method="HEAD"), 404),
            (get("/", method="BREW"), 405),
            (b"nonsense\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\xff: x\r\n\r\n", 400),
            (get("/", more="Content-Length: -1\r\n"), 400),
            (get("/", more="Transfer-Encoding: chunked\r\n"), 400),
            (get("/", more=f"Content-Length: {LONGEST_BODY + 1}\r\n"), 413),
            (get("/", more="Content-Length: 99999999999999999999\r\n"), 413),
            (b"GET /" + b"x" * LONGEST_HEAD, 413),
        ],
    )
    def test_what_is_refused(self, request_: bytes, status: int) -> None:
        assert Router().http(request_)[0] == status

    def test_a_request_may_come_in_pieces(self) -> None:
        whole = get("/rootDesc.xml", more="Content-Length: 3\r\n") + b"abc"
        router = Router()
        for end in range(len(whole)):
            assert router.gateway.http(whole[:end], CLIENT, 1.0) is None
        assert router.http(whole)[0] == 200

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", ROUTER, f"{ROUTER}:80", ""])
    def test_a_name_that_was_made_to_point_here_is_refused(self, host: str) -> None:
        """FAULTS 103: DNS rebinding."""
        router = Router()
        assert router.http(get("/rootDesc.xml", host=host))[0] == 403
        assert router.http(b"GET /rootDesc.xml HTTP/1.1\r\n\r\n")[0] == 403

    def test_port_80_needs_no_number(self) -> None:
        assert Router(http_port=80).http(get("/rootDesc.xml", host=ROUTER))[0] == 200

    @pytest.mark.parametrize(
        "callback",
        ["<http://203.0.113.9/x>", "<http://192.168.1.10/x>" * 100, f"<http://{'x' * 7000}/>", ""],
    )
    def test_events_are_sent_to_nobody(self, callback: str) -> None:
        """FAULTS 101: CallStranger, CVE-2020-12695."""
        router = Router()
        more = f"CALLBACK: {callback}\r\nNT: upnp:event\r\nTIMEOUT: Second-300\r\n"
        assert router.http(get("/evt/IPConn", method="SUBSCRIBE", more=more))[0] == 412
        too_long = f"CALLBACK: <http://{'x' * 10240}/>\r\n"
        assert router.http(get("/evt/IPConn", method="SUBSCRIBE", more=too_long))[0] in (412, 413)
        assert router.gateway.drops.counts["subscription"] >= 1

    def test_the_outside_is_refused(self) -> None:
        """FAULTS 100: from the WAN side nothing is served."""
        router = Router()
        assert router.http(get("/rootDesc.xml"), OUTSIDE)[0] == 403
        assert router.add(OUTSIDE)[0] == 403

    def test_too_many_requests(self) -> None:
        router = Router(rate=1.0, burst=2)
        assert [router.http(get("/rootDesc.xml"))[0] for _ in range(3)] == [200, 200, 429]

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_request_or_refused(self, data: bytes) -> None:
        with suppress(BadRequest):
            HttpRequest.parse(data + b"\r\n\r\n")


class TestSoap:
    def test_an_envelope_of_ours_can_be_read_back(self) -> None:
        body = soap.answer("urn:x:1", "Do", {"A": "<&>", "B": ""})
        assert soap.parse_action(body) == ("urn:x:1", "DoResponse", {"A": "<&>", "B": ""})

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<a>",
            b"<a/>",
            b'<!DOCTYPE a [<!ENTITY x "xx">]><a>&x;</a>',
            b"<a>" * 100,
            BODY.format("").encode(),
            BODY.format(f"<A>{'x' * 5000}</A>").encode(),
            BODY.format(f"<A>{''.join(f'<a{n}/>' for n in range(99))}</A>").encode(),
        ],
    )
    def test_what_is_no_action(self, body: bytes) -> None:
        with pytest.raises(soap.MalformedSoap):
            soap.parse_action(body)
        request = get("/ctl/IPConn", method="POST", more=f"Content-Length: {len(body)}\r\n") + body
        assert Router().http(request)[0] == 400

    @given(st.binary(max_size=200))
    def test_any_bytes_are_an_action_or_malformed(self, data: bytes) -> None:
        with suppress(soap.MalformedSoap):
            soap.parse_action(data)


class TestActions:
    def test_the_external_address(self) -> None:
        status, text = Router().soap("GetExternalIPAddress")
        assert (status, value(text, "NewExternalIPAddress")) == (200, PUBLIC)

    def test_status(self) -> None:
        router = Router()
        assert value(router.soap("GetStatusInfo", now=42.0)[1], "NewConnectionStatus") == "Connected"
        assert value(router.soap("GetStatusInfo", now=42.0)[1], "NewUptime") == "42"
        assert value(router.soap("GetConnectionTypeInfo", now=42.0)[1], "NewConnectionType") == "IP_Routed"
        assert value(router.soap("GetNATRSIPStatus", now=42.0)[1], "NewNATEnabled") == "1"

    def test_a_mapping_lets_everybody_in_for_its_time(self) -> None:
        router = Router()
        assert router.add()[0] == 200
        assert router.reaches(EXTERNAL) == INTERNAL
        assert router.reaches(EXTERNAL, 3601.0) is None

    def test_it_can_be_looked_up_and_listed(self) -> None:
        router = Router()
        router.add()
        text = router.soap("GetSpecificPortMappingEntry", now=2.0, NewExternalPort=7000, NewProtocol="udp")[1]
        assert value(text, "NewInternalClient") == CLIENT.host
        assert value(text, "NewLeaseDuration") == "3599"
        assert value(text, "NewPortMappingDescription") == "natwalk &amp; co"
        text = router.soap("GetGenericPortMappingEntry", NewPortMappingIndex=0)[1]
        assert (value(text, "NewExternalPort"), value(text, "NewProtocol")) == ("7000", "UDP")
        assert router.soap("GetGenericPortMappingEntry", NewPortMappingIndex=1)[0] == 713
        assert router.soap("GetSpecificPortMappingEntry", NewExternalPort=7000, NewProtocol="TCP")[0] == 714

    def test_a_lease_without_end_has_none_in_version_1_and_a_week_in_version_2(self) -> None:
        one, two = Router(upnp=1), Router(upnp=2)
        for router in (one, two):
            router.add(NewLeaseDuration=0)
        assert one.reaches(EXTERNAL, 1e9) == INTERNAL
        assert (
            value(one.soap("GetGenericPortMappingEntry", NewPortMappingIndex=0)[1], "NewLeaseDuration") == "0"
        )
        assert two.reaches(EXTERNAL, 604_800.9) == INTERNAL
        assert two.reaches(EXTERNAL, 604_801.0) is None

    def test_deleted_it_is_gone(self) -> None:
        router = Router()
        router.add()
        assert router.soap("DeletePortMapping", OTHER, NewExternalPort=7000, NewProtocol="UDP")[0] == 606
        assert router.soap("DeletePortMapping", NewExternalPort=7000, NewProtocol="UDP")[0] == 200
        assert router.reaches(EXTERNAL) is None
        assert router.soap("DeletePortMapping", NewExternalPort=7000, NewProtocol="UDP")[0] == 714

    def test_who_asks_again_moves_or_renews_its_own(self) -> None:
        router = Router()
        router.add()
        assert router.add(now=100.0)[0] == 200
        assert router.reaches(EXTERNAL, 3601.0) == INTERNAL
        assert router.add(now=100.0, NewInternalPort=7001)[0] == 200
        assert router.reaches(EXTERNAL, 101.0) == INTERNAL.with_port(7001)
        assert router.add(now=100.0, NewInternalPort=7001, NewExternalPort=7002)[0] == 718

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"NewExternalPort": 0}, 716),
            ({"NewInternalPort": 0}, 732),
            ({"NewExternalPort": 65536}, 402),
            ({"NewExternalPort": ""}, 402),
            ({"NewExternalPort": "70 00"}, 402),
            ({"NewProtocol": "SCTP"}, 402),
            ({"NewEnabled": 0}, 402),
            ({"NewLeaseDuration": "soon"}, 402),
            ({"NewExternalPort": 22}, 606),
            ({"NewRemoteHost": "203.0.113.7"}, 606),
            ({"action": "FactoryReset"}, 401),
            ({"action": "AddAnyPortMapping"}, 401),
        ],
    )
    def test_errors(self, changes: dict[str, object], code: int) -> None:
        router = Router()
        assert router.add(**changes)[0] == code
        assert router.gateway.leases(1.0) == ()

    @pytest.mark.parametrize("client", [OTHER.host, "192.168.1.255", "255.255.255.255", "203.0.113.7", ""])
    def test_nobody_maps_for_another(self, client: str) -> None:
        """FAULTS 100: not for another client, not for everybody."""
        router = Router()
        assert router.add(NewInternalClient=client)[0] == 606
        assert router.gateway.leases(1.0) == ()

    def test_anothers_port_is_a_conflict_and_any_port_is_not(self) -> None:
        router = Router(upnp=2)
        router.add()
        assert router.add(OTHER)[0] == 718
        status, text = router.add(OTHER, action="AddAnyPortMapping")
        assert status == 200
        assert value(text, "NewReservedPort") not in ("7000", "")
        router.nat.outbound(Packet(OTHER.with_port(8000), Address("203.0.113.1", 1), b""), 1.0)
        assert router.add(NewInternalPort=8000, NewExternalPort=8000)[0] == 718, "a flow has it"

    def test_version_2_lists_and_deletes_ranges(self) -> None:
        router = Router(upnp=2)
        for port in (7000, 7001, 7002):
            router.add(NewExternalPort=port, NewInternalPort=port)
        router.add(OTHER, NewExternalPort=7003, NewInternalPort=7003)
        span = {"NewStartPort": 7001, "NewEndPort": 7003, "NewProtocol": "UDP", "NewManage": 1}

        def listed(count: int, **changes: object) -> list[str | None]:
            code, text = router.soap(
                "GetListOfPortMappings", **(span | {"NewNumberOfPorts": count} | changes)
            )
            if code != 200:
                return [str(code)]
            document = ElementTree.fromstring(ElementTree.fromstring(text).find(".//NewPortListing").text)
            space = "{urn:schemas-upnp-org:gw:WANIPConnection}"
            return [each.text for each in document.iter(f"{space}NewExternalPort")]

        assert listed(0) == ["7001", "7002", "7003"]
        assert listed(1) == ["7001"]
        assert listed(0, NewProtocol="TCP") == ["730"]
        assert listed(0, NewStartPort=9000) == ["733"]
        assert router.soap("DeletePortMappingRange", **span)[0] == 200
        assert listed(0) == ["7003"], "another's stays"
        assert router.soap("DeletePortMappingRange", **span)[0] == 606

    def test_a_client_has_its_share(self) -> None:
        router = Router(mappings_per_client=1)
        router.add()
        assert router.add(NewExternalPort=7001, NewInternalPort=7001)[0] == 728

    def test_no_upnp_client_touches_what_pcp_made(self) -> None:
        router = Router()
        router.gateway._leases.open(IpProtocol.UDP, INTERNAL, 7000, 600, 1.0, nonce=b"n" * 12)
        assert router.add(NewInternalPort=7001)[0] == 718
        assert router.soap("DeletePortMapping", NewExternalPort=7000, NewProtocol="UDP")[0] == 606


class TestQuirks:
    """Each preset of a router with odd services does what its source saw."""

    def test_725_to_a_lease_that_ends(self) -> None:
        router = Router(ServiceQuirk.ONLY_PERMANENT_LEASES)
        assert router.add()[0] == 725
        assert router.add(NewLeaseDuration=0)[0] == 200

    def test_answers_from_another_port(self) -> None:
        (answer,) = Router(ServiceQuirk.REPLY_FROM_OTHER_PORT).ask(search("upnp:rootdevice"), 1900)
        assert answer.source == Address(ROUTER, 11900)

    def test_a_private_external_address(self) -> None:
        text = Router(ServiceQuirk.PRIVATE_EXTERNAL_ADDRESS).soap("GetExternalIPAddress")[1]
        assert value(text, "NewExternalIPAddress").startswith("10.")

    def test_the_same_port_only(self) -> None:
        router = Router(ServiceQuirk.SAME_PORT_ONLY)
        assert router.add(NewInternalPort=7001)[0] == 724
        assert router.add()[0] == 200

    def test_several_services_some_404(self) -> None:
        router = Router(ServiceQuirk.DEAD_SERVICES)
        _, body = router.http(get("/rootDesc.xml"))
        root = ElementTree.fromstring(body)
        urls = [each.text for each in root.iter("{urn:schemas-upnp-org:device-1-0}controlURL")]
        assert urls == ["/ctl/PPPConn", "/ctl/IPConn"]
        assert router.http(get("/ctl/PPPConn", method="POST"))[0] == 404
        assert router.add()[0] == 200


class TestGateway:
    def test_news_of_a_lost_table(self) -> None:
        """RFC 6886 §3.2.1: ten times, each interval twice the last; RFC 6887 §14.1."""
        router = Router()
        router.add()
        router.nat.reset(500.0)
        router.gateway.reset(500.0)
        assert router.gateway.leases(500.0) == ()
        times = []
        while (at := router.gateway.next_timeout()) is not None:
            assert router.gateway.announcements(at - 0.001) == []
            news = router.gateway.announcements(at)
            times.append(at - 500.0)
            if len(times) == 1:
                assert sum(packet.destination.host == "239.255.255.250" for packet in news) == 7
                assert b"BOOTID.UPNP.ORG: 2" in news[-1].payload
            to_all = [p for p in news if p.destination == Address("224.0.0.1", 5350)]
            assert [p.payload[:2] for p in to_all] == [b"\0\x80", b"\x02\x80"]
        assert times == [0.25 * (2**n - 1) for n in range(10)]
        assert router.soap("GetStatusInfo", now=510.0)[1].count(">10<") == 1

    def test_it_says_nothing_about_services_it_does_not_have(self) -> None:
        router = Router(nat_pmp=False, pcp=False, upnp=0)
        assert router.gateway.announcements(router.gateway.next_timeout()) == []

    def test_it_needs_to_know_where_it_is(self) -> None:
        nat = Nat(NatConfig(public_addresses=(PUBLIC,)), random_bytes=bytes)
        with pytest.raises(LocalProtocolError):
            Gateway(GatewayConfig(upnp=1), nat, 0.0)

    @pytest.mark.parametrize(
        "fields",
        [
            {"upnp": 3},
            {"http_port": 0},
            {"lowest_port": 70000},
            {"shortest_lease": 0},
            {"shortest_lease": 10, "longest_lease": 9},
            {"mappings_per_client": 0},
            {"address": "10.0.0.1", "network": "192.168.1.0/24"},
        ],
    )
    def test_what_cannot_be(self, fields: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            GatewayConfig(**fields)  # type: ignore[arg-type]

    def test_rate_limits_remember_a_bounded_number_of_names(self) -> None:
        limit = RateLimit(1.0, 1.0)
        for n in range(3000):
            assert limit.allows(str(n), 0.0)
        assert len(limit._buckets) == RateLimit.NAMES
        assert not limit.allows("2999", 0.5)
        assert limit.allows("2999", 1.6)

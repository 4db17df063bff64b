"""What is said before frames: proxies, the Upgrade, and every cut and damage of their answers."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.relay import (
    HttpConnect,
    Opening,
    OpeningRefused,
    ProxyCredentials,
    RelayUpgrade,
    Socks5,
    wants_relay,
)
from natwalk.relay.opening import HEAD_LIMIT
from natwalk.relay.upgrade import SWITCHING

ALICE = ProxyCredentials("alice", "pass word")
TUNNEL = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"


def feed(opening: Opening, answer: bytes, step: int) -> bytes:
    """Give the whole of ``answer`` in pieces; what is left of it for the next layer."""
    pieces = [answer[at : at + step] for at in range(0, len(answer), step)]
    while pieces and not opening.done:
        opening.receive(pieces.pop(0))
    return opening.rest() + b"".join(pieces)


class TestUpgrade:
    def test_the_request_is_this(self) -> None:
        assert RelayUpgrade("example.net", 443, "/p").start() == (
            b"GET /p/v1/relay HTTP/1.1\r\nHost: example.net:443\r\nConnection: Upgrade\r\n"
            b"Upgrade: natwalk-relay\r\nUser-Agent: natwalk\r\n\r\n"
        )
        assert b"Host: [2001:db8::1]:80\r\n" in RelayUpgrade("2001:db8::1", 80).start()

    @pytest.mark.parametrize("step", [1, 2, 7, 1000])
    def test_frames_that_come_with_the_answer_are_kept(self, step: int) -> None:
        upgrade = RelayUpgrade("example.net", 443)
        assert feed(upgrade, SWITCHING + b"frames\r\n\r\n", step) == b"frames\r\n\r\n"
        assert upgrade.done

    def test_a_captive_portal_is_no_relay(self) -> None:
        """FAULTS 147: 200 or 302 with HTML is refused with its status."""
        for status in (200, 302, 404, 426, 503):
            with pytest.raises(OpeningRefused, match=str(status)) as refused:
                RelayUpgrade("h", 1).receive(b"HTTP/1.1 %d Whatever\r\nA: b\r\n\r\n<html>" % status)
            assert refused.value.status == status

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 x\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/2",
            b"HTTP/1.1 1o1 x\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 101 x\r\nno header\r\n\r\n",
            b"HTTP/1.1 101 x\r\nUpgrade : natwalk-relay\r\n\r\n",
            b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * HEAD_LIMIT,
            b"HTTP/1.1 101 " + b"x" * (HEAD_LIMIT + 1) + b"\r\n\r\n",
        ],
    )
    def test_what_is_no_answer_is_malformed(self, answer: bytes) -> None:
        upgrade = RelayUpgrade("h", 1)
        with pytest.raises(MalformedMessage):
            for at in range(0, len(answer), 1000):
                upgrade.receive(answer[at : at + 1000])

    def test_a_reason_cannot_write_on_the_terminal(self) -> None:
        with pytest.raises(OpeningRefused) as refused:
            RelayUpgrade("h", 1).receive(b"HTTP/1.1 403 \x1b[2J\xff\r\n\r\n")
        assert str(refused.value) == "the server answers 403 ?[2J?"

    @pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "a/b", "user@host", "h\u0301"])
    def test_a_host_cannot_break_a_line(self, host: str) -> None:
        for make in (RelayUpgrade, HttpConnect, Socks5):
            with pytest.raises(ValueError, match="host"):
                make(host, 1)

    def test_a_prefix_cannot_either(self) -> None:
        with pytest.raises(ValueError, match="path"):
            RelayUpgrade("h", 1, "/a b")

    def test_servers_know_such_requests(self) -> None:
        headers = [(b"host", b"x"), (b"connection", b"keep-alive, UPGRADE"), (b"upgrade", b"Natwalk-Relay")]
        assert wants_relay(b"GET", "/v1/relay", headers)
        assert not wants_relay(b"POST", "/v1/relay", headers)
        assert not wants_relay(b"GET", "/v1/relay/", headers)
        assert not wants_relay(b"GET", "/v1/relay", headers[:2])
        assert not wants_relay(b"GET", "/v1/relay", headers[::2])


class TestConnect:
    def test_the_request_is_this(self) -> None:
        assert HttpConnect("example.net", 443).start() == (
            b"CONNECT example.net:443 HTTP/1.1\r\nHost: example.net:443\r\nUser-Agent: natwalk\r\n\r\n"
        )
        line = b"Proxy-Authorization: Basic " + b64encode(b"alice:pass word") + b"\r\n"
        assert line in HttpConnect("::1", 443, ALICE).start()

    @pytest.mark.parametrize("step", [1, 3, 1000])
    def test_a_tunnel_gives_what_follows_to_the_next_layer(self, step: int) -> None:
        connect = HttpConnect("h", 1)
        assert feed(connect, TUNNEL + b"\x16\x03", step) == b"\x16\x03"
        assert connect.done

    def test_a_proxy_that_wants_credentials_is_said_to(self) -> None:
        for credentials, words in ((None, "a user name and a password"), (ALICE, "other credentials")):
            with pytest.raises(OpeningRefused, match=words) as refused:
                HttpConnect("h", 1, credentials).receive(b"HTTP/1.1 407 x\r\n\r\n")
            assert refused.value.status == 407

    def test_a_proxy_that_refuses(self) -> None:
        with pytest.raises(OpeningRefused, match="the proxy answers 403 Filtered"):
            HttpConnect("h", 1).receive(b"HTTP/1.0 403 Filtered\r\n\r\n")

    def test_credentials_do_not_show_and_cannot_break_a_line(self) -> None:
        assert "pass" not in repr(ALICE)
        assert "alice" not in repr(ALICE)
        for name, password in (("a:b", "x"), ("", "x"), ("x", ""), ("a\r\n", "x"), ("x", "y" * 256)):
            with pytest.raises(ValueError, match="proxy"):
                ProxyCredentials(name, password)


class TestSocks:
    def talk(self, socks: Socks5, *answers: bytes) -> list[bytes]:
        return [socks.start(), *(socks.receive(answer) for answer in answers)]

    def test_a_name_is_resolved_by_the_proxy(self) -> None:
        socks = Socks5("example.net", 443)
        said = self.talk(socks, b"\5\0", b"\5\0\0\1\0\0\0\0\0\0")
        assert said == [b"\5\1\0", b"\5\1\0\3\x0bexample.net\x01\xbb", b""]
        assert socks.done

    @pytest.mark.parametrize(
        ("host", "address"),
        [("192.0.2.1", "01c0000201"), ("2001:db8::1", "0420010db8000000000000000000000001")],
    )
    def test_addresses_go_as_such(self, host: str, address: str) -> None:
        socks = Socks5(host, 80)
        assert self.talk(socks, b"\5\0")[1] == b"\5\1\0" + bytes.fromhex(address) + b"\0\x50"

    def test_it_logs_in_when_asked_to(self) -> None:
        socks = Socks5("h", 1, ALICE)
        said = self.talk(socks, b"\5\2", b"\1\0", b"\5\0\0\3\x04name\0\0rest")
        assert said[:2] == [b"\5\2\0\2", b"\1\x05alice\x09pass word"]
        assert said[2].startswith(b"\5\1\0")
        assert socks.rest() == b"rest"
        assert socks.rest() == b""

    def test_no_credentials_are_sent_to_a_proxy_that_wants_none(self) -> None:
        assert self.talk(Socks5("h", 1, ALICE), b"\5\0")[1].startswith(b"\5\1\0")

    @pytest.mark.parametrize("step", [1, 2, 3, 100])
    def test_answers_may_come_in_pieces_or_at_once(self, step: int) -> None:
        socks = Socks5("h", 1, ALICE)
        answer = b"\5\2" + b"\1\0" + b"\5\0\0\4" + bytes(18) + b"\x16"
        assert feed(socks, answer, step) == b"\x16"
        assert socks.done

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"\4\0", MalformedMessage),
            (b"\5\xff", OpeningRefused),
            (b"\5\1", MalformedMessage),
            (b"\5\2\1\1", OpeningRefused),
            (b"\5\0\4\0", MalformedMessage),
            (b"\5\0\5\5", OpeningRefused),
            (b"\5\0\5\x63", OpeningRefused),
            (b"\5\0\5\0\0\2\0", MalformedMessage),
        ],
    )
    def test_answers_that_are_no(self, answer: bytes, error: type[Exception]) -> None:
        with pytest.raises(error):
            Socks5("h", 1, ALICE).receive(answer)

    def test_a_proxy_may_not_ask_for_credentials_there_are_none_of(self) -> None:
        with pytest.raises(OpeningRefused, match="log in"):
            Socks5("h", 1).receive(b"\5\2")

    def test_a_name_of_more_than_255_bytes_is_no_host(self) -> None:
        with pytest.raises(ValueError, match="host"):
            Socks5("a" * 256, 1)


@given(st.sampled_from([RelayUpgrade, HttpConnect, Socks5]), st.lists(st.binary(max_size=40), max_size=10))
def test_any_bytes_are_an_answer_or_an_error_of_ours(make: Any, pieces: list[bytes]) -> None:
    opening = make("example.net", 443)
    for piece in pieces:
        if opening.done:
            break
        try:
            opening.receive(piece)
        except (MalformedMessage, OpeningRefused):
            return

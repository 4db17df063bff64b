"""The page about access to the relay: its files load, its programs make credentials the server takes."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from pathlib import Path

from natwalk.core import Transport
from natwalk.server.config import load
from natwalk.stun import ACCESS_TOKEN, NONCE, REALM, REQUESTED_TRANSPORT, USERNAME, Method, encode, request
from natwalk.turn import OAuthKey, TurnConfig
from turn_world import REALM_NAME, World, code_of, make_config

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "give-access-to-the-relay.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def test_every_file_of_the_page_loads_and_says_what_the_page_says(tmp_path: Path) -> None:
    for name in ("turn.new", "turn.old", "oauth.key"):
        (tmp_path / name).write_text(b64encode(name.encode().ljust(32)).decode())
        (tmp_path / name).chmod(0o600)
    found: list[TurnConfig] = []
    for text in blocks("toml"):
        path = tmp_path / "natwalk.toml"
        path.write_text(text)
        found.append(load(path).turn)
    rest, users, oauth, limits = found
    assert len(rest.auth_secrets) == 2
    assert list(users.users) == ["alice"]
    assert [key.kid for key in oauth.oauth_keys] == ["2026-11"]
    assert oauth.oauth_server_name == "turn.example.org"
    assert limits.limits.bandwidth_per_user == 2_000_000
    assert limits.limits.bytes_per_user_per_day == 20_000_000_000


def test_credentials_the_page_makes_are_taken() -> None:
    rest, oauth = blocks("python")
    names: dict[str, object] = {}
    for block in (rest, oauth):
        exec(compile(block, str(PAGE), "exec"), names)
    key, token, mac_key = names["key"], names["token"], names["mac_key"]
    assert isinstance(key, OAuthKey)
    assert isinstance(token, bytes)
    assert isinstance(mac_key, bytes)
    world = World(
        make_config(
            auth_secrets=("the content of turn.new",),
            oauth_keys=(key,),
            third_party_authorization="turn.example.org",
        )
    )
    world.server.set_wall_offset(time.time() - world.now)
    raw = world.raw_client(transport=Transport.TCP)
    signed = raw.allocate(username=str(names["username"]), password=str(names["password"]))
    assert code_of(signed) == 0
    other = world.raw_client(50001)
    other.challenge()
    message = request(
        Method.ALLOCATE,
        bytes(12),
        (REQUESTED_TRANSPORT, 17),
        (USERNAME, key.kid),
        (REALM, REALM_NAME),
        (NONCE, other.nonce),
        (ACCESS_TOKEN, token),
    )
    other.say(encode(message, integrity_key=mac_key))
    assert world.server.stats.allocations == 2

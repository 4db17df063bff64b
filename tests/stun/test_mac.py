"""Our HMAC is HMAC."""

from __future__ import annotations

import hmac
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.stun.mac import mac


@settings(max_examples=200, deadline=None)
@given(key=st.binary(max_size=130), data=st.binary(max_size=200), name=st.sampled_from(["sha1", "sha256"]))
def test_it_is_the_standard_library_s(key: bytes, data: bytes, name: Literal["sha1", "sha256"]) -> None:
    for _ in range(2):
        assert mac(key, data, name) == hmac.digest(key, data, name)

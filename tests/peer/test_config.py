import pytest

from natwalk.peer import PeerConfig, ResumeToken, Role
from natwalk.rendezvous import Code


def _code(nameplate: int) -> str:
    return str(Code.generate(nameplate, bytes))


@pytest.mark.parametrize(
    ("role", "options"),
    [(Role.ACCEPT, {}), (Role.OFFER, {"code": Code.parse(_code(4))})],
)
def test_roles_and_what_they_need_must_fit(role: Role, options: dict[str, Code]) -> None:
    with pytest.raises(ValueError, match=r"code|token"):
        PeerConfig(role, **options)  # type: ignore[arg-type]


def test_a_token_is_enough_for_either_role() -> None:
    token = ResumeToken("0" * 32, bytes(32))
    for role in Role:
        assert PeerConfig(role, resume=token).resume == token

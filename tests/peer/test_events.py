from natwalk.peer import ResumeToken


def test_a_resume_token_never_shows_its_secret() -> None:
    token = ResumeToken("ab" * 16, b"\x01secret\x02" * 4)
    for text in (repr(token), str(token), f"{token}"):
        assert "secret\\x02" not in text
        assert "<hidden>" in text

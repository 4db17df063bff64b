from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.rendezvous.codes import LISTS, Code, InvalidCode, complete, complete_word
from natwalk.rendezvous.wordlist import FIRST, SECOND

codes = st.builds(Code, st.integers(1, 999_999), st.tuples(st.sampled_from(FIRST), st.sampled_from(SECOND)))


class TestWords:
    @pytest.mark.parametrize("words", LISTS)
    def test_each_list_has_256_distinct_words_that_three_letters_name(self, words: tuple[str, ...]) -> None:
        assert len(words) == len(set(words)) == len({word[:3] for word in words}) == 256
        assert list(words) == sorted(words)

    def test_words_are_plain_and_short_and_in_one_list_only(self) -> None:
        assert not set(FIRST) & set(SECOND)
        for word in FIRST + SECOND:
            assert word.isascii()
            assert word.isalpha()
            assert word.islower()
            assert 3 <= len(word) <= 8


class TestCode:
    def test_every_byte_names_another_word(self) -> None:
        made = {Code.generate(7, lambda n, b=byte: bytes([b, b])).words for byte in range(256)}
        assert len({words[0] for words in made}) == len({words[1] for words in made}) == 256

    def test_generating_draws_one_byte_a_word(self) -> None:
        assert Code.generate(7, lambda n: bytes(range(n))) == Code(7, (FIRST[0], SECOND[1]))

    @given(codes)
    def test_parsing_what_is_shown_gives_the_same_code(self, code: Code) -> None:
        assert Code.parse(str(code)) == code

    @given(codes, st.sampled_from(["-", " ", "_", ".", ", ", "--", ""]), st.booleans())
    def test_separators_and_case_do_not_matter(self, code: Code, separator: str, upper: bool) -> None:
        text = f" {code.nameplate}{separator}{separator.join(code.words)}\n"
        assert Code.parse(text.upper() if upper else text) == code

    @given(codes)
    def test_three_letters_of_each_word_are_enough(self, code: Code) -> None:
        assert Code.parse("-".join((str(code.nameplate), *(word[:3] for word in code.words)))) == code

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "starts with its number"),
            ("amber-falcon", "starts with its number"),
            ("0-amber-falcon", "from 1 to 999999"),
            ("1234567-amber-falcon", "from 1 to 999999"),
            ("7", "both words are missing"),
            ("7-", "both words are missing"),
            ("7-amber", "the second word is missing"),
            ("7-amber-falcon-extra", "there are 3"),
            ("7-amber-8", "only words of letters"),
            ("7-ambre-falcon", "did you mean 'amber'"),
            ("7-amber-flacon", "did you mean 'falcon'"),
            ("7-am-falcon", "not a word"),
            ("7-qqqqq-falcon", "check it with the sender"),
            ("7-falcon-amber", "not a word"),
            ("7-" + "a" * 500, "too long"),
            ("٧-amber-falcon", "starts with its number"),
        ],
    )
    def test_what_is_wrong_is_said(self, text: str, says: str) -> None:
        with pytest.raises(InvalidCode, match=says):
            Code.parse(text)

    @given(st.text(max_size=60))
    def test_any_text_is_a_code_or_an_invalid_one(self, text: str) -> None:
        try:
            code = Code.parse(text)
        except InvalidCode:
            return
        assert Code.parse(str(code)) == code

    @pytest.mark.parametrize(
        ("nameplate", "words"), [(0, ("amber", "falcon")), (7, ("amber",)), (7, ("falcon", "amber")), (7, ())]
    )
    def test_a_code_is_checked_when_made(self, nameplate: int, words: tuple[str, ...]) -> None:
        with pytest.raises(InvalidCode):
            Code(nameplate, words)

    def test_the_words_are_in_the_password_and_not_in_the_repr(self) -> None:
        code = Code(7, ("amber", "falcon"))
        assert code.password == b"7-amber-falcon"
        assert "amber" not in repr(code)


class TestCompletion:
    def test_a_word_is_completed_with_what_follows_it(self) -> None:
        assert complete("7-amb") == ["7-amber-"]
        assert complete("7-amber-fal") == ["7-amber-falcon"]
        assert complete("7 AMBER fal") == ["7-amber-falcon"]
        assert len(complete("7-")) == len(complete("12-amber-")) == 256

    @pytest.mark.parametrize("text", ["", "7", "x-", "0-am", "7-nosuch-fal", "7-amber-falcon-x", "7-zzz"])
    def test_nothing_fits(self, text: str) -> None:
        assert complete(text) == []

    @given(codes)
    def test_every_code_can_be_completed_from_its_first_letters(self, code: Code) -> None:
        first, second = code.words
        assert complete(f"{code.nameplate}-{first[:3]}") == [f"{code.nameplate}-{first}-"]
        assert complete(f"{code.nameplate}-{first}-{second[:3]}") == [str(code)]

    def test_words_alone(self) -> None:
        assert complete_word("FAL", 1) == ["falcon"]
        assert complete_word("fal", 0) == []

"""Text becomes sentences in the alphabet, without those that a test set knows."""

import json
from pathlib import Path

import pytest
from arpa_models import write_lines
from full_disk import full_disk
from hypothesis import assume, given
from hypothesis import strategies as st

from speech.corpora.formats import registry
from speech.language_model.sentences import RESERVED, Excluded, Normaliser, prepare, read_excluded
from speech.language_model.text_files import TextFile, find_text, read_blocks
from speech.text import transcripts
from speech.text.transcripts import AS_IT_IS, LANGUAGES, TranscriptRules
from utils import ENGLISH, UTF_8, Alphabet, UserError, lines_of

FLAG = "--input_txt"

# What parts words, vanishes, joins or is rewritten, besides any character at all.
TEXTS = st.text(
    st.one_of(
        st.sampled_from(
            "abzABZñüßIİıΣσ'\u2019-.,<>%1230٣ \n\u00a0\u00ad\u2028\u2029\u0085\v\f\x1c\x1e"  # noqa: RUF001
            "\u200b\u200c\u200e\u2060\ufeff\u0301\u0307ـأَ今天"
        ),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)
RULES = st.builds(
    TranscriptRules,
    st.sampled_from([None, *LANGUAGES, "az", "pl", "zh"]),
    st.sampled_from(transcripts.FORMS),
    st.booleans(),
) | st.builds(TranscriptRules, st.sampled_from(list(LANGUAGES)), spell_numbers=st.just(True))
INVISIBLE = "\u00ad\u061c\u200b\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufeff"


def words_of(label: str) -> list[str]:
    """The words of a label, as a language model counts them."""
    return [word for word in label.split() if word != "'" and word not in RESERVED]


@given(TEXTS, RULES, st.data())
def test_the_words_of_the_model_are_the_words_of_the_label(
    text: str, rules: TranscriptRules, data: st.DataObject
) -> None:
    label = rules.apply(text)
    assume("\0" not in label)  # which no corpus may have
    alphabets = [Alphabet(tuple(sorted({*label, " "})))]
    if rules.language in LANGUAGES:
        alphabets.append(transcripts.alphabet_of(rules.language))
    alphabets.append(UTF_8)
    alphabet = data.draw(st.sampled_from(alphabets))
    assume(not alphabet.missing(label))
    lines = list(Normaliser(alphabet, False, rules).sentences(" ".join(lines_of(text))))
    assert lines == ([words_of(label)] if words_of(label) else [])


@given(TEXTS.map(lambda text: text.replace("\n", " ").replace("\r", " ")), RULES)
def test_the_words_are_the_same_in_whatever_form_a_corpus_is_read(
    tmp_path_factory: pytest.TempPathFactory, text: str, rules: TranscriptRules
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    assume(text.strip() and "\0" not in text)
    reading = registry.Reading(language=rules.language)
    table, lines = folder / "a.json", folder / "split" / "1-2.trans.txt"
    table.write_text(json.dumps({"key": "a", "text": text}, ensure_ascii=False), encoding="utf-8")
    lines.parent.mkdir()
    lines.write_text(f"1-2-0 {text}\n", encoding="utf-8", newline="")
    for path in (str(table), str(lines.parent)):
        (utterance,) = registry.read([path], None, reading)
        label = rules.apply(utterance.transcript or "")
        (file,) = find_text([path], FLAG, rules.language)
        normaliser = Normaliser(Alphabet(tuple(sorted({*label, " "}))), False, rules)
        found = [words for block in read_blocks(file) for words in normaliser.sentences(block)]
        assert found == ([words_of(label)] if words_of(label) else [])


@pytest.mark.parametrize("invisible", INVISIBLE)
@pytest.mark.parametrize("language", [None, "en", "pl"])
def test_invisible_characters_separate_no_words_and_hide_no_test_sentence(
    tmp_path: Path, language: str | None, invisible: str
) -> None:
    normaliser = Normaliser(ENGLISH, False, TranscriptRules(language))
    hidden = f"co{invisible}operate well"
    known = TextFile(write_lines(tmp_path / "test", [hidden]), "--exclude_txt")
    excluded = read_excluded([known], normaliser)
    for line in ("cooperate well", hidden):
        (found,) = normaliser.sentences(line)
        assert found == ["cooperate", "well"] and excluded.touches(found)
    assert normaliser.normalise_token(f"co{invisible}operate") == "cooperate"
    assert not normaliser.outside


def test_a_token_of_an_existing_model_with_a_space_is_dropped() -> None:
    normaliser = Normaliser(ENGLISH, False)
    assert (
        normaliser.normalise_token("new\u00a0york") is None
        and normaliser.normalise_token("\u200b") is None
    )


def words(
    text: str, alphabet: Alphabet = ENGLISH, rules: TranscriptRules = AS_IT_IS
) -> list[list[str]]:
    return list(Normaliser(alphabet, characters=False, rules=rules).sentences(text))


def split(text: str) -> list[str]:
    return text.split()


def test_upper_case_becomes_lower_case_and_marks_separate_words() -> None:
    assert words("Oh, NO!\n\n ... \nyes-and\tno") == [["oh", "no"], ["yes", "and", "no"]]


def test_apostrophes_of_all_kinds_become_one() -> None:
    assert words("don\u2019t don't donʼt") == [["don't"] * 3]  # noqa: RUF001 - that is the point


def test_a_single_quotation_mark_is_no_word() -> None:
    assert words("he said ' hello '") == [["he", "said", "hello"]]


def test_upper_case_letters_of_the_alphabet_stay() -> None:
    alphabet = Alphabet(tuple("abcN "))
    assert words("NAB Cab cAn", alphabet) == [["Nab", "cab", "ca"]]


def test_letters_are_composed() -> None:
    alphabet = Alphabet(tuple("aä "))
    assert words("a\u0308A\u0308 ä", alphabet) == [["ää", "ä"]]


def test_a_letter_whose_lower_case_is_two_characters_separates() -> None:
    assert words("aİb") == [["a", "b"]]


def test_characters_outside_the_alphabet_are_counted() -> None:
    normaliser = Normaliser(ENGLISH, characters=False)
    assert list(normaliser.sentences("Oh, 2 or 3?\r\n2\u2028so")) == [["oh", "or"], ["so"]]
    assert normaliser.outside == {"2": 2, "3": 1, ",": 1, "?": 1}


def test_marks_of_a_model_are_no_words() -> None:
    alphabet = Alphabet(tuple("abcdefghijklmnopqrstuvwxyz <>/"))
    assert words("<s> a <unk> b </s> <b>", alphabet) == [["a", "b", "<b>"]]


def test_characters_are_tokens_and_the_space_is_one() -> None:
    normaliser = Normaliser(ENGLISH, characters=True)
    assert normaliser.tokens(["so", "am", "i"]) == [*"so", "<space>", *"am", "<space>", "i"]


def test_a_language_without_spaces_has_none() -> None:
    normaliser = Normaliser(Alphabet(tuple("今天气很好")), characters=True)
    (found,) = normaliser.sentences("今天, 天气很好。")
    assert normaliser.tokens(found) == list("今天天气很好")


def test_bytes_keep_everything_that_the_rules_leave() -> None:
    text = "Don’t «PAY» 5%: हिन्दी می\u200cشود-ÉTÉ <s>"  # noqa: RUF001
    assert words(text, UTF_8) == [text.split()[:-1]]
    rules = TranscriptRules("de")
    assert words(text, UTF_8, rules) == [words_of(rules.apply(text))]
    assert {"pay", "été"} < set(words(text, UTF_8, rules)[0])


def test_bytes_have_no_space_between_chinese_characters() -> None:
    normaliser = Normaliser(UTF_8, characters=True, rules=TranscriptRules("zh"))
    (found,) = normaliser.sentences("今天、天气 OK 很好。 مرحبا يا")
    assert normaliser.tokens(found) == [
        *"今天天气", "<space>", *"ok", "<space>", *"很好", "<space>", *"مرحبا", "<space>", *"يا"
    ]  # fmt: skip
    assert not normaliser.has_space and Normaliser(UTF_8, characters=False).has_space
    assert (
        normaliser.normalise_token("<space>") == "<space>"
        and normaliser.normalise_token("天气") is None
    )


def test_without_a_space_in_the_alphabet_there_are_no_words() -> None:
    with pytest.raises(UserError, match="--characters"):
        Normaliser(Alphabet(tuple("今天")), characters=False)


def test_a_line_with_six_words_of_a_transcript_is_left_out() -> None:
    excluded = Excluded(has_space=True)
    excluded.add(split("we all went home in the dark rain"))
    assert excluded.touches(split("then we all went home in the car"))
    assert not excluded.touches(split("home in the dark rain again"))
    assert excluded.touches(split("went home in the dark rain"))
    assert not excluded.touches(split("all we went home in the"))


def test_a_line_that_equals_a_short_transcript_is_left_out() -> None:
    excluded = Excluded(has_space=True)
    excluded.add(split("good morning"))
    assert excluded.touches(split("good morning"))
    assert not excluded.touches(split("good morning everybody"))


def test_without_spaces_ten_characters_are_a_run() -> None:
    excluded = Excluded(has_space=False)
    excluded.add(["abcdefghijkl"])
    excluded.add(["short"])
    assert excluded.touches(["xbcdefg", "hijky"])
    assert not excluded.touches(["xbcdefghijy"])
    assert excluded.touches(["sho", "rt"])


def test_the_text_is_written_in_tokens_and_counted(tmp_path: Path) -> None:
    paths = [
        write_lines(tmp_path / "a", ["One two.", "---", "Two, two: three"]),
        write_lines(tmp_path / "b.trans.txt", ["1-2-3 FOUR TWO"]),
    ]
    files = [TextFile(path, FLAG) for path in paths]
    excluded = Excluded(has_space=True)
    excluded.add(["one", "two"])
    target = tmp_path / "prepared"
    normaliser = Normaliser(ENGLISH, characters=False)
    prepared = prepare(files, normaliser, excluded, str(target), most_tokens=None)
    assert target.read_text() == "two two three\nfour two\n"
    assert (prepared.sentences, prepared.left_out, prepared.tokens) == (2, 1, 5)
    assert prepared.occurrences.most_common(1) == [("two", 3)]


def test_unsuitable_text_is_refused(tmp_path: Path) -> None:
    normaliser = Normaliser(ENGLISH, characters=False)

    def attempt(lines: list[str], most_tokens: int | None = None) -> None:
        file = TextFile(write_lines(tmp_path / "text", lines), FLAG)
        target = str(tmp_path / "prepared")
        prepare([file], normaliser, Excluded(has_space=True), target, most_tokens)

    with pytest.raises(UserError, match="no words in the characters of the alphabet"):
        attempt(["1234", "5"])
    with pytest.raises(UserError, match=r"more than 3 tokens.*make kenlm"):
        attempt(["a b c d"], most_tokens=3)


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    file = TextFile(write_lines(tmp_path / "text", ["enough words"] * 1000), FLAG)
    normaliser = Normaliser(ENGLISH, characters=False)
    with full_disk(1000), pytest.raises(UserError, match=r"can't be written.*--output_dir"):
        prepare([file], normaliser, Excluded(True), str(tmp_path / "prepared"), None)

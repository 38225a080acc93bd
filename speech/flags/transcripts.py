"""Flags of how transcripts and texts are written, which several doors have."""

from absl import flags

from speech.system import command_line
from speech.text import alphabets, transcripts
from speech.text.transcripts import TranscriptRules
from utils import Alphabet


def define_transcript_flags() -> None:
    flags.DEFINE_string(
        "language",
        None,
        "Write the text by this language's rules of capitals and punctuation: a code of ISO 639; "
        f"{', '.join(transcripts.LANGUAGES)} also have an alphabet. Default: as it is.",
    )
    command_line.define_choice(
        "unicode_form", transcripts.FORMS[0], transcripts.FORMS, "That the text is brought into."
    )
    flags.DEFINE_bool(
        "strip_diacritics",
        False,
        "Leave out accents, harakat and other marks, but no letter that is --language's own.",
    )
    flags.DEFINE_bool("spell_numbers", False, "Write numbers as words of --language.")


def asked_rules(values: flags.FlagValues) -> TranscriptRules:
    """What the flags ask for.

    Raises:
        UserError: these rules can't be followed.
    """
    return TranscriptRules(
        values.language, values.unicode_form, values.strip_diacritics, values.spell_numbers
    )


def asked_alphabet(values: flags.FlagValues) -> Alphabet:
    """That of --alphabet, or else of --language, or else English.

    Raises:
        UserError: the file can't be read, or there is no ready alphabet of the language.
    """
    if values.language and not values.alphabet:
        return transcripts.alphabet_of(values.language)
    return alphabets.read_alphabet(values.alphabet)

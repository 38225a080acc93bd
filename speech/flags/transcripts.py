"""Flags of the normalisation of transcripts and texts."""

from absl import flags

from speech.flags import kinds
from speech.text import alphabets, transcripts
from speech.text.transcripts import TranscriptRules
from utils import Alphabet


def define_transcript_flags() -> None:
    """Defines the flags of the normalisation."""
    flags.DEFINE_string(
        "language",
        None,
        "Language, a code of ISO 639, whose rules normalise case and punctuation; "
        f"{', '.join(transcripts.LANGUAGES)} also have an alphabet. Default: no normalisation.",
    )
    kinds.define_choice(
        "unicode_form",
        transcripts.FORMS[0],
        transcripts.FORMS,
        "Unicode normalisation form of the text.",
    )
    flags.DEFINE_bool(
        "strip_diacritics",
        False,
        "Removal of accents, harakat and other marks, except in letters of --language.",
    )
    flags.DEFINE_bool("spell_numbers", False, "Spelling of numbers in words of --language.")


def rules_from_flags(values: flags.FlagValues) -> TranscriptRules:
    """Returns the rules of the normalisation.

    Raises:
        UserError: the rules contradict each other.
    """
    return TranscriptRules(
        values.language, values.unicode_form, values.strip_diacritics, values.spell_numbers
    )


def alphabet_from_flags(values: flags.FlagValues) -> Alphabet:
    """Returns the alphabet of --alphabet, else of --language, else the English one.

    Raises:
        UserError: the file can't be read, or the language has no ready alphabet.
    """
    if values.language and not values.alphabet:
        return transcripts.alphabet_of(values.language)
    return alphabets.read_alphabet(values.alphabet)

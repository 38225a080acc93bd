"""Which script a character is of."""

import unicodedata

# Chinese and Japanese, which is written in several scripts at once.
EAST_ASIAN = "CJK"
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC")


def script_of(character: str) -> str:
    """The script's name in capitals, EAST_ASIAN for all that Chinese and Japanese are written in.

    It is the first word of the character's name in Unicode; of a character that no script has, such
    as a combining accent, that word is no script's.
    """
    script = unicodedata.name(character, "UNNAMED").split()[0]
    return EAST_ASIAN if script in _EAST_ASIAN else script


def written_without_spaces(character: str) -> bool:
    """Whether no spaces separate words where such characters are written, each much of a word."""
    return script_of(character) == EAST_ASIAN

"""Properties of characters, and the forms in which messages and reports show them."""

import unicodedata

# Chinese and Japanese, which is written in several scripts at once.
EAST_ASIAN = "CJK"
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC")

CIRCLE = "\u25cc"  # base character that a mark is shown on
FIRST_ISOLATE, END_ISOLATE = "\u2068", "\u2069"


def script_of(character: str) -> str:
    """Returns the name of a character's script in capitals.

    It is the first word of the character's name in Unicode: EAST_ASIAN for every script of Chinese
    and Japanese. The word names no script for a character that belongs to none, such as a combining
    accent.
    """
    script = unicodedata.name(character, "UNNAMED").split()[0]
    return EAST_ASIAN if script in _EAST_ASIAN else script


def written_without_spaces(character: str) -> bool:
    """Says whether a character's script puts no spaces between words, as Chinese and Japanese."""
    return script_of(character) == EAST_ASIAN


def is_mark(character: str) -> bool:
    """Says whether a character is a mark on the character before it."""
    return unicodedata.category(character).startswith("M")


def unicode_name(character: str) -> str:
    """Returns a character's name in Unicode; "control" for controls, which have none."""
    unnamed = "control" if unicodedata.category(character) == "Cc" else "unnamed"
    return unicodedata.name(character, unnamed)


def code_point(character: str) -> str:
    """Returns a character's code point, as in U+00E9."""
    return f"U+{ord(character):04X}"


def display_form(character: str) -> str:
    """Returns a visible form: a mark on a circle, a word for an invisible character."""
    if is_mark(character):
        return f"{CIRCLE}{character}"
    invisible = {"Z": "space", "C": "invisible"}
    return invisible.get(unicodedata.category(character)[0], character)


def describe(character: str) -> str:
    """Returns a character's form, code point and name: 'é' (U+00E9, LATIN ...)."""
    form = f"'{display_form(character)}'" if is_mark(character) else repr(character)
    return f"{form} ({code_point(character)}, {unicode_name(character)})"


def isolate_right_to_left(text: str) -> str:
    """Isolates a text with right-to-left characters, so that it reorders nothing beside it."""
    if any(unicodedata.bidirectional(each) in ("R", "AL", "AN") for each in text):
        return isolate(text)
    return text


def isolate(text: str) -> str:
    """Puts a text between Unicode's isolates: its first strong letter decides its direction."""
    return f"{FIRST_ISOLATE}{text}{END_ISOLATE}"


def in_utf8(text: str) -> str:
    """Escapes what UTF-8 can't encode: the name of a file may hold any bytes."""
    return text.encode(errors="backslashreplace").decode()

"""Errors for users, lines and numbers in text, and alphabets, which map text to labels."""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

# --- Errors ---------------------------------------------------------------------------------------


class UserError(Exception):
    """An error that the user can fix.

    The message names the file or flag, the value, and the remedy. The doors print it without a
    traceback and exit with status 1.
    """


class AlphabetError(UserError):
    """A character that isn't in an alphabet, or an alphabet that is invalid."""


# --- Text -----------------------------------------------------------------------------------------

# Marks of direction, zero-width space, word joiner, soft hyphen and byte order mark.
INVISIBLE = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def lines_of(text: str) -> list[str]:
    """Returns the lines of a text, which end with \\n, \\r\\n or \\r, without these ends.

    str.splitlines also ends lines at U+2028, U+0085, \\v, \\f and others, which people's texts
    contain in place of spaces: the text after one would be lost or become a line.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def is_number(text: str) -> bool:
    """Returns whether a text is a whole number in the digits 0 to 9, as programs write it.

    str.isdigit accepts superscripts, too, and str.isdecimal the digits of all scripts.
    """
    return text.isascii() and text.isdecimal()


def in_western_digits(text: str) -> str:
    """Replaces the digits of all scripts by 0 to 9: ١٢ becomes 12. Superscripts stay."""
    return "".join(str(unicodedata.decimal(each, each)) for each in text)


# --- Alphabets ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alphabet:
    """The characters that a model writes; the CTC blank comes after them.

    Text is compared in Unicode's composed form (NFC), so that a letter typed as a base and a
    combining accent equals the alphabet's letter. Some letters, such as U+0958 to U+095F of
    Devanagari, are several characters in NFC. An alphabet may have them: `encode` finds them in
    their composed form, and `decode` writes that form.
    """

    # In label order: characters[i] has label i. Each is one character.
    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.characters:
            raise AlphabetError("The alphabet has no characters: give it at least one.")
        for character in self.characters:
            if not isinstance(character, str) or len(character) != 1:
                raise AlphabetError(
                    f"The alphabet's entry {character!r} is not one character: "
                    "put one character on each line."
                )
            if unicodedata.normalize("NFC", character) != character not in self._split:
                raise AlphabetError(
                    f"The alphabet's entry {character!r} is not in Unicode's composed form (NFC), "
                    "in which transcripts are compared."
                )
        if len(set(self.characters)) != len(self.characters):
            twice = sorted({c for c in self.characters if self.characters.count(c) > 1})
            raise AlphabetError(f"The alphabet has {twice!r} more than once: remove the repeats.")

    @property
    def blank(self) -> int:
        """The label of the CTC blank: the last class."""
        return len(self.characters)

    @property
    def size(self) -> int:
        """Number of classes of the network's softmax: the characters and the blank."""
        return len(self.characters) + 1

    @cached_property
    def _split(self) -> dict[str, str]:
        """The characters that NFC splits -> their form there."""
        forms = {each: unicodedata.normalize("NFC", each) for each in self.characters}
        return {each: form for each, form in forms.items() if len(form) > 1 and form != each}

    def composed(self, text: str) -> str:
        """Returns a text in NFC, but with the alphabet's own characters where NFC splits them."""
        return self.joined(unicodedata.normalize("NFC", text))

    def joined(self, text: str) -> str:
        """Returns a text with the alphabet's own characters where NFC has split them."""
        for character, form in self._split.items():
            text = text.replace(form, character)
        return text

    def written(self, character: str) -> str:
        """Returns a character of the alphabet as texts have it, in NFC."""
        return self._split.get(character, character)

    @cached_property
    def _label_of(self) -> dict[str, int]:
        return {character: label for label, character in enumerate(self.characters)}

    def encode(self, text: str, utterance_id: str = "") -> list[int]:
        """Returns the labels of `text`, one for each character.

        Raises:
            AlphabetError: a character is not in the alphabet. The message names the first one, its
                position, and the utterance.
        """
        text = self.composed(text)
        try:
            return [self._label_of[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            name = unicodedata.name(character, "unnamed")
            utterance = f" of utterance {utterance_id}" if utterance_id else ""
            raise AlphabetError(
                f"The character {character!r} (U+{ord(character):04X}, {name}) at position "
                f"{text.index(character)} in the transcript{utterance} is not in the alphabet."
            ) from None

    def labels_of(self, character: str) -> list[int]:
        """Returns the labels of one character, without composing it with neighbours as in NFC.

        Raises:
            KeyError: it is not in the alphabet.
        """
        return [self._label_of[character]]

    def missing(self, text: str) -> list[str]:
        """Returns the characters of `text` that are not in the alphabet, sorted."""
        return sorted(set(self.composed(text)) - self._label_of.keys())

    def decode(self, labels: Iterable[int]) -> str:
        """Returns the text of `labels`. Blanks are dropped, repeats kept (see beam_search.py)."""
        return "".join(
            self.written(self.characters[label]) for label in labels if label != self.blank
        )

    def __str__(self) -> str:
        """Returns the characters in label order, for messages."""
        return "".join(self.characters)

    def to_json(self) -> list[str] | str:
        """Returns the characters in label order, or UTF8_NAME, for an index or a config."""
        return list(self.characters)

    @staticmethod
    def from_json(characters: Any) -> "Alphabet":
        """Reads what `to_json` returned, or its JSON text.

        Raises:
            AlphabetError: it is no alphabet.
        """
        if isinstance(characters, str) and characters != UTF8_NAME:
            try:
                characters = json.loads(characters)
            except (ValueError, RecursionError) as error:
                raise AlphabetError(f"The alphabet's JSON can't be read: {error}.") from None
        if characters == UTF8_NAME:
            return UTF_8
        if not isinstance(characters, (list, tuple)):
            raise AlphabetError(
                f"An alphabet in JSON is a list of characters, not {characters!r}, or "
                f'"{UTF8_NAME}".'
            )
        return Alphabet(tuple(characters))

    @classmethod
    def from_bytes(cls, content: bytes, path: str) -> "Alphabet":
        """Reads a file with one character a line. `# ...` is a comment, `\\#` the character.

        It is in UTF-8. A byte order mark, Windows line ends and empty lines are allowed. A line
        with one space is the space. speech/text/alphabets.py reads and writes such files.

        Args:
            content: the file's bytes.
            path: the file's path, for messages.

        Raises:
            AlphabetError: it is no alphabet; the message names the file and the line.
        """
        characters = []
        try:
            lines = lines_of(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise AlphabetError(
                f"The alphabet {path} is not UTF-8 ({error}): save it as UTF-8."
            ) from None
        for number, line in enumerate(lines, start=1):
            if not line or line.startswith("#"):
                continue
            character = "#" if line == "\\#" else line
            if len(composed := unicodedata.normalize("NFC", character)) == 1:
                character = composed
            if len(character) != 1:
                raise AlphabetError(
                    f"{path}, line {number}: {line!r} is not one character; "
                    "put one on each line, and # before comments."
                )
            characters.append(character)
        try:
            return cls(tuple(characters))
        except AlphabetError as error:
            raise AlphabetError(f"{path}: {error}") from None


# The name of the alphabet of bytes in flags, indexes and configs.
UTF8_NAME = "utf-8"

# Stands for bytes that are no character.
REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Utf8Alphabet(Alphabet):
    """The 256 bytes of UTF-8, in which any text can be written; the blank is label 256.

    For scripts with more characters than a network can have classes, such as Chinese, like
    DeepSpeech's --bytes_output_mode. A character has one to four labels.
    """

    # Names of the labels: characters of one byte, and the other bytes in hexadecimal, as E4.
    characters: tuple[str, ...] = field(
        default=tuple(chr(byte) if byte < 0x80 else f"{byte:02X}" for byte in range(256)),
        init=False,
        repr=False,
    )

    def __post_init__(self) -> None:
        """Checks nothing: the names of bytes are valid."""

    def encode(self, text: str, utterance_id: str = "") -> list[int]:
        """Returns the labels of `text`: the bytes of its composed form (NFC).

        Raises:
            AlphabetError: it contains half a surrogate pair, which is no character.
        """
        text = unicodedata.normalize("NFC", text)
        try:
            return list(text.encode())
        except UnicodeEncodeError as error:
            utterance = f" of utterance {utterance_id}" if utterance_id else ""
            raise AlphabetError(
                f"The character U+{ord(text[error.start]):04X} at position {error.start} in the "
                f"transcript{utterance} is half a surrogate pair, which UTF-8 doesn't have."
            ) from None

    def labels_of(self, character: str) -> list[int]:
        """Returns the bytes of one character; none for REPLACEMENT, which stands for others."""
        return [] if character == REPLACEMENT else list(character.encode())

    def missing(self, text: str) -> list[str]:
        """Returns the halves of surrogate pairs in `text`, sorted; UTF-8 has all else."""
        return sorted(each for each in set(text) if "\ud800" <= each <= "\udfff")

    def decode(self, labels: Iterable[int]) -> str:
        """Returns the text of `labels`. Blanks are dropped; repeats are kept (see beam_search.py).

        Each run of bytes that is no character becomes one U+FFFD. If it were dropped, error rates
        would not count these bytes, and nobody would notice them.
        """
        return bytes(label for label in labels if label != self.blank).decode(errors="replace")

    def __str__(self) -> str:
        return f"{UTF8_NAME} (bytes)"

    def to_json(self) -> str:
        return UTF8_NAME


UTF_8 = Utf8Alphabet()

# 26 letters, space, apostrophe: 29 classes with the blank.
ENGLISH = Alphabet(tuple("abcdefghijklmnopqrstuvwxyz '"))

# DeepSpeech's order of the same characters, by which its scorers number them.
DEEPSPEECH_ENGLISH = Alphabet(tuple(" abcdefghijklmnopqrstuvwxyz'"))

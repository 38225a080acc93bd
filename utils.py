"""Alphabet: text <-> label indices; text as people write it; and the error that they can mend."""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


class UserError(Exception):
    """Something the person at the keyboard can mend.

    The message names the file or flag, the value, and the remedy. The doors print it without a
    traceback and exit with status 1.
    """


class AlphabetError(UserError):
    """A character that an alphabet doesn't have, or an alphabet that can't be one."""


# Marks of direction, zero-width space, word joiner, soft hyphen and byte order mark.
INVISIBLE = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def lines_of(text: str) -> list[str]:
    """Returns the lines of a text, which end with \\n, \\r\\n or \\r, without these ends.

    str.splitlines also ends lines at U+2028, U+0085, \\v, \\f and others, which stand for spaces in
    what people write: what follows one would be lost or become a line of its own.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def is_number(text: str) -> bool:
    """Says whether a text is a whole number in the digits 0 to 9, as programs write it.

    str.isdigit takes superscripts too, and str.isdecimal the digits of all scripts.
    """
    return text.isascii() and text.isdecimal()


def in_western_digits(text: str) -> str:
    """Returns a text with the digits of all scripts as 0 to 9: ١٢ is 12. Superscripts stay."""
    return "".join(str(unicodedata.decimal(each, each)) for each in text)


@dataclass(frozen=True)
class Alphabet:
    """The characters a model writes; the CTC blank comes behind them.

    Text is compared in Unicode's composed form (NFC), so that a letter typed as base and combining
    accent is the letter of the alphabet.
    """

    # In label order: characters[i] has label i. Each is one character in NFC.
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
            if unicodedata.normalize("NFC", character) != character:
                raise AlphabetError(
                    f"The alphabet's entry {character!r} is not in Unicode's composed form (NFC), "
                    "in which transcripts are compared."
                )
        if len(set(self.characters)) != len(self.characters):
            twice = sorted({c for c in self.characters if self.characters.count(c) > 1})
            raise AlphabetError(f"The alphabet has {twice!r} more than once: remove the repeats.")

    @property
    def blank(self) -> int:
        """The label of CTC's blank: the last one."""
        return len(self.characters)

    @property
    def size(self) -> int:
        """Number of classes a network puts out: the characters and the blank."""
        return len(self.characters) + 1

    @cached_property
    def _label_of(self) -> dict[str, int]:
        return {character: label for label, character in enumerate(self.characters)}

    def encode(self, text: str, utterance_id: str = "") -> list[int]:
        """Labels of `text`, one a character.

        Raises:
            AlphabetError: names the first character that the alphabet doesn't have, where it
                stands, and the utterance.
        """
        text = unicodedata.normalize("NFC", text)
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
        """Labels of one character as it is, whatever its neighbours would make of it in NFC.

        Raises:
            KeyError: the alphabet doesn't have it.
        """
        return [self._label_of[character]]

    def missing(self, text: str) -> list[str]:
        """The characters of `text` that the alphabet doesn't have, sorted."""
        return sorted(set(unicodedata.normalize("NFC", text)) - self._label_of.keys())

    def decode(self, labels: Iterable[int]) -> str:
        """The text of `labels`. Blanks are dropped; repeats are kept (see beam_search.py)."""
        return "".join(self.characters[label] for label in labels if label != self.blank)

    def __str__(self) -> str:
        """The characters in label order, for messages."""
        return "".join(self.characters)

    def to_json(self) -> list[str] | str:
        """The characters in label order, or UTF8_NAME, for an index or a config."""
        return list(self.characters)

    @staticmethod
    def from_json(characters: Any) -> "Alphabet":
        """The alphabet that `to_json` made, or the JSON text of that."""
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
        """That of a file: one character a line, UTF-8. `# ...` is a comment, `\\#` the character.

        A byte order mark, Windows line ends and empty lines are tolerated. A line that holds a
        space is the space. speech/text/alphabets.py reads and writes such files.

        Args:
            path: the file's, for messages.

        Raises:
            AlphabetError: names the file and the line.
        """
        characters = []
        try:
            lines = lines_of(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise AlphabetError(
                f"The alphabet {path} is not UTF-8 ({error}): save it so."
            ) from None
        for number, line in enumerate(lines, start=1):
            if not line or line.startswith("#"):
                continue
            character = unicodedata.normalize("NFC", "#" if line == "\\#" else line)
            if len(character) != 1:
                raise AlphabetError(
                    f"{path}, line {number}: {line!r} is not one character; "
                    "put one on each line, and # in front of comments."
                )
            characters.append(character)
        try:
            return cls(tuple(characters))
        except AlphabetError as error:
            raise AlphabetError(f"{path}: {error}") from None


# How flags, indexes and configs name the alphabet of bytes.
UTF8_NAME = "utf-8"

# What stands for bytes that are no character.
REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Utf8Alphabet(Alphabet):
    """All text there is, written in the 256 bytes of UTF-8; the blank is label 256.

    For scripts of more characters than a network can put out, such as Chinese, as DeepSpeech's
    --bytes_output_mode. A character has one to four labels.
    """

    # Names of the labels: the characters of one byte, and the numbers of the other bytes, as E4.
    characters: tuple[str, ...] = field(
        default=tuple(chr(byte) if byte < 0x80 else f"{byte:02X}" for byte in range(256)),
        init=False,
        repr=False,
    )

    def __post_init__(self) -> None:
        """These names need no check."""

    def encode(self, text: str, utterance_id: str = "") -> list[int]:
        """Labels of `text`: the bytes of its composed form (NFC).

        Raises:
            AlphabetError: half a surrogate pair, which is no character; no other text.
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
        """The bytes of one character as it is; of REPLACEMENT, which stands for others, none."""
        return [] if character == REPLACEMENT else list(character.encode())

    def missing(self, text: str) -> list[str]:
        """Halves of surrogate pairs in `text`, sorted; all else can be written."""
        return sorted(each for each in set(text) if "\ud800" <= each <= "\udfff")

    def decode(self, labels: Iterable[int]) -> str:
        """The text of `labels`. Blanks are dropped; repeats are kept (see beam_search.py).

        Each run of bytes that is no character becomes one U+FFFD. Dropped, what a network puts in
        by mistake would be missing from error rates, and nobody would see it.
        """
        return bytes(label for label in labels if label != self.blank).decode(errors="replace")

    def __str__(self) -> str:
        return f"{UTF8_NAME} (bytes)"

    def to_json(self) -> str:
        return UTF8_NAME


UTF_8 = Utf8Alphabet()


# 26 letters, space, apostrophe: 29 classes with the blank.
ENGLISH = Alphabet(tuple("abcdefghijklmnopqrstuvwxyz '"))

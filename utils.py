"""Alphabet: text <-> label indices, and the error that people at the keyboard can mend."""

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any


class UserError(Exception):
    """Something the person at the keyboard can mend.

    The message names the file or flag, the value, and the remedy. The doors print it without a
    traceback and exit with status 1.
    """


class AlphabetError(UserError):
    """A character that an alphabet doesn't have, or an alphabet that can't be one."""


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

    def missing(self, text: str) -> list[str]:
        """The characters of `text` that the alphabet doesn't have, sorted."""
        return sorted(set(unicodedata.normalize("NFC", text)) - self._label_of.keys())

    def decode(self, labels: Iterable[int]) -> str:
        """The text of `labels`. Blanks are dropped; repeats are kept (see speech/decoder.py)."""
        return "".join(self.characters[label] for label in labels if label != self.blank)

    def to_json(self) -> list[str]:
        """The characters in label order, for an index or a config."""
        return list(self.characters)

    @classmethod
    def from_json(cls, characters: Any) -> "Alphabet":
        """The alphabet that `to_json` made: a list of characters, or the JSON text of one."""
        if isinstance(characters, str):
            try:
                characters = json.loads(characters)
            except json.JSONDecodeError as error:
                raise AlphabetError(f"The alphabet's JSON can't be read: {error}.") from None
        if not isinstance(characters, (list, tuple)):
            raise AlphabetError(f"An alphabet in JSON is a list of characters, not {characters!r}.")
        return cls(tuple(characters))

    @classmethod
    def from_file(cls, path: str) -> "Alphabet":
        """Reads one character a line, UTF-8. `# ...` is a comment, `\\#` the character itself.

        A byte order mark, Windows line ends and empty lines are tolerated. A line that holds a
        space is the space.

        Raises:
            AlphabetError: names the file and the line.
        """
        characters = []
        try:
            with open(path, encoding="utf-8-sig") as file:
                lines = file.read().split("\n")
        except OSError as error:
            raise AlphabetError(f"The alphabet {path} can't be read: {error.strerror}.") from None
        except UnicodeDecodeError as error:
            raise AlphabetError(
                f"The alphabet {path} is not UTF-8 ({error}): save it so."
            ) from None
        for number, line in enumerate(lines, start=1):
            line = line.rstrip("\r")
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


# 26 letters, space, apostrophe: 29 classes with the blank.
ENGLISH = Alphabet(tuple("abcdefghijklmnopqrstuvwxyz '"))

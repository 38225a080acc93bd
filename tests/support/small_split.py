"""A small split in LibriSpeech's layout, whose ids aren't in the order of their numbers."""

SPOKEN = {
    "84-2-0001": "MOTHER'S KITCHEN",
    "84-2-0000": "HELLO",
    "84-10-0000": "A CAT",
    "777-1-0000": "THE DOG",
}

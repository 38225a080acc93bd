"""Media types of sound files, for HTTP and HTML."""

import base64

# How files of each format begin: offset in bytes, content, media type.
MEDIA_TYPES = (
    (0, b"fLaC", "audio/flac"),
    (0, b"RIFF", "audio/wav"),
    (0, b"OggS", "audio/ogg"),
    (4, b"ftyp", "audio/mp4"),
)
OTHER_MEDIA_TYPE = "audio/mpeg"  # whose files begin in many ways


def media_type_of(content: bytes) -> str:
    """Returns the media type of a sound file's content."""
    for offset, beginning, name in MEDIA_TYPES:
        if content[offset:].startswith(beginning):
            return name
    return OTHER_MEDIA_TYPE


def data_uri(content: bytes) -> str:
    """Returns a URI that contains a whole sound file."""
    return f"data:{media_type_of(content)};base64,{base64.b64encode(content).decode()}"

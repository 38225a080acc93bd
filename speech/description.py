"""What an exported model says of itself: all that its reader needs beside the graph."""

import json
from dataclasses import asdict, dataclass, field

from speech.config import ModelConfig
from utils import UserError

DESCRIPTION_FORMAT = 1


@dataclass(frozen=True)
class Naming:
    """What people call a model; nothing is computed from it. Empty: not said."""

    name: str = ""
    version: str = ""
    author: str = ""
    language: str = ""
    license: str = ""
    description: str = ""


@dataclass(frozen=True)
class Description:
    """A model's settings, the steps it was trained for, and its names."""

    config: ModelConfig
    checkpoint_step: int
    naming: Naming = field(default_factory=Naming)

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": DESCRIPTION_FORMAT,
                "checkpoint_step": self.checkpoint_step,
                "naming": asdict(self.naming),
                "config": json.loads(self.config.to_json()),
            },
            indent=1,
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str, path: str) -> "Description":
        """The description in `text`; `path` is for the message of the UserError if it is none."""
        try:
            content = json.loads(text)
            if content["format"] != DESCRIPTION_FORMAT:
                raise UserError(
                    f"{path} was exported in format {content['format']}, this program reads format "
                    f"{DESCRIPTION_FORMAT}: export it with this version."
                )
            return cls(
                ModelConfig.from_json(json.dumps(content["config"]), path),
                int(content["checkpoint_step"]),
                Naming(**content["naming"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} doesn't say what it is a model of ({error!r}): export it anew."
            ) from None

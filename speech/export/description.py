"""The description in an exported model: what its reader needs besides the graph."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from speech.networks.config import ModelConfig
from speech.system import typed_json

DESCRIPTION_FORMAT = 1


@dataclass(frozen=True)
class Naming:
    """Names and texts about a model, for people. Empty: unknown."""

    name: str = ""
    version: str = ""
    author: str = ""
    language: str = ""
    license: str = ""
    description: str = ""


@dataclass(frozen=True)
class Description:
    """A model's settings, its training steps, and its names."""

    config: ModelConfig
    checkpoint_step: int
    naming: Naming = field(default_factory=Naming)

    def to_json(self) -> str:
        """Formats the description as JSON."""
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
        """Parses a description.

        Args:
            path: of the file, for messages.

        Raises:
            UserError: the text isn't a description of this format.
        """
        remedy = "export the model again, with this version of the program"
        with typed_json.explain_errors(path, "an exported model's description", remedy):
            content = typed_json.parse_object(text)
            typed_json.check_format(content, DESCRIPTION_FORMAT)
            file = typed_json.read(_DescriptionFile, content, "description")
            return cls(ModelConfig.from_object(file.config), file.checkpoint_step, file.naming)


@dataclass(frozen=True)
class _DescriptionFile:
    """The fields of a description's JSON."""

    format: int
    checkpoint_step: int
    naming: Naming
    config: Any

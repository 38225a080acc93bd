"""Flags of export.py's names and texts about a model."""

from absl import flags

from speech.export.description import Naming


def define_naming_flags() -> None:
    for name, meaning in (
        ("model_name", "Name of the model"),
        ("model_version", "Version of the model, e.g. 1.0.0"),
        ("author_id", "Author of the model"),
        ("language", "Language of the model, e.g. en-US"),
        ("license", "Licence of the model, e.g. Apache-2.0"),
        ("description", "One sentence about the model"),
    ):
        help_text = f"{meaning}; written to the page and into the exported files."
        flags.DEFINE_string(f"export_{name}", "", help_text)


def naming_from_flags(values: flags.FlagValues) -> Naming:
    """Returns the names and texts that the flags give."""
    return Naming(
        values.export_model_name,
        values.export_model_version,
        values.export_author_id,
        values.export_language,
        values.export_license,
        values.export_description,
    )

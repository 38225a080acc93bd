"""Rules that combinations of flags must follow."""

from collections.abc import Iterable

from utils import UserError

# Whether the rule is broken, and the message in that case.
Rule = tuple[object, str]


def check_rules(rules: Iterable[Rule]) -> None:
    """Raises a UserError with the message of the first broken rule."""
    for broken, message in rules:
        if broken:
            raise UserError(message)

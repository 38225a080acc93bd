"""Rules for combinations of flags."""

import pytest

from speech.flags.rules import check_rules
from utils import UserError


def test_the_first_broken_rule_is_the_error() -> None:
    check_rules([(False, "a"), ([], "b"), (None, "c")])
    with pytest.raises(UserError, match=r"^b$"):
        check_rules([(0, "a"), (["x"], "b"), (True, "c")])

"""The check for the packages of the extra `serve`."""

import pytest

from speech.serving import requirements
from utils import UserError


def test_installed_packages_are_accepted() -> None:
    requirements.check()


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "NEEDED", ("fastapi", "no_such_package", "nor_this"))
    with pytest.raises(UserError, match=r"^serve\.py needs no_such_package, nor_this: pip install"):
        requirements.check()

"""For authors of plugins: the contracts that a storage and a manager have to keep, as classes for pytest.

A test module subclasses one and says what it is to be run on::

    from modelstore.testing import StorageContract

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStorage(tmp_path)

Needs pytest, which modelstore does not install.
"""

from __future__ import annotations

import pytest

# So that a failing `assert` in a contract shows its values, as one in a test module does.
pytest.register_assert_rewrite("modelstore.contracts")

from modelstore.contracts.manager import Case, ManagerContract  # noqa: E402
from modelstore.contracts.storage import StorageContract  # noqa: E402

__all__ = ["Case", "ManagerContract", "StorageContract"]

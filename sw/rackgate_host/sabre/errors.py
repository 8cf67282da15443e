# SPDX-License-Identifier: Apache-2.0
"""Errors of snapshots and of what is done with them."""

import os

from ..errors import RackgateError

__all__ = ["SabreError", "SnapshotError"]


class SabreError(RackgateError):
    """Base of this package's errors."""


class SnapshotError(SabreError, ValueError):
    """A snapshot file is not what it should be. Nothing of the faulty part is used.

    The text names the file, the field, its value and the rule that the value breaks; they are attributes as well.
    """

    def __init__(self, path: str | os.PathLike[str], field: str, value: object, rule: str):
        super().__init__(f"{os.fspath(path)}: {field} is {value}, must be {rule}")
        self.path = os.fspath(path)
        self.field = field
        self.value = value
        self.rule = rule

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.path, self.field, self.value, self.rule)

"""Things that are costly to make, kept while there is room; shared by the server's threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Kept"]

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """The values that were used last, each made once however many threads ask for it.

    What is pushed out is not closed, since another thread may be using it still; it ends with its
    last reference.

    Parameters
    ----------
    most
        Values kept at the most.
    most_bytes
        Their size at the most; the value used last stays, however large it is.
    size_of
        Gives the size of a value in bytes.
    """

    def __init__(
        self, most: int, most_bytes: int = 0, size_of: Callable[[Value], int] | None = None
    ) -> None:
        self._most, self._most_bytes, self._size_of = most, most_bytes, size_of
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._making: dict[Key, threading.Lock] = {}
        self._lock = threading.Lock()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    @property
    def size_bytes(self) -> int:
        """Size of all that is kept, in bytes."""
        return self._bytes

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made now if it is not kept; what `make` raises is raised."""
        with self._lock:
            if key in self._values:
                return self._used(key)
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:  # another thread has made it meanwhile
                    return self._used(key)
            try:
                value = make()
                with self._lock:
                    self._keep(key, value)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def drop(self, unwanted: Callable[[Key], bool]) -> None:
        """Let go of the values whose keys are not wanted any more."""
        with self._lock:
            for key in [key for key in self._values if unwanted(key)]:
                self._bytes -= self._values.pop(key)[1]

    def _used(self, key: Key) -> Value:
        self._values.move_to_end(key)
        return self._values[key][0]

    def _keep(self, key: Key, value: Value) -> None:
        size = 0 if self._size_of is None else self._size_of(value)
        self._bytes += size - self._values.pop(key, (value, 0))[1]
        self._values[key] = (value, size)
        while len(self._values) > 1 and (
            len(self._values) > self._most or self._bytes > self._most_bytes > 0
        ):
            self._bytes -= self._values.popitem(last=False)[1][1]

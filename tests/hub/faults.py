"""What goes wrong on purpose: which requests, how, and how often."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

Kind = Literal["fail", "drop", "cut", "slow", "corrupt"]


@dataclass
class Fault:
    """One rule. `hits` counts the requests it has spoiled; `times` is None where it never ends."""

    kind: Kind
    match: str
    times: int | None = 1
    method: str | None = None
    status: int = 0
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    after_bytes: int = 0
    reset: bool = False
    bytes_per_s: int = 0
    hits: int = 0
    healed: threading.Event = field(default_factory=threading.Event)

    def concerns(self, kind: Kind, method: str, path: str) -> bool:
        return (
            kind == self.kind
            and (self.times is None or self.hits < self.times)
            and self.method in (None, method)
            and (self.match in path or self.match in unquote(path))
        )


class Faults:
    """The rules in force, in the order they were made."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._rules.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            for rule in self._rules:
                rule.healed.set()
            self._rules.clear()

    def take(self, kind: Kind, method: str, path: str, body_bytes: int = 0) -> Fault | None:
        """The first rule of this kind for this request, counted as used."""
        with self._lock:
            for rule in self._rules:
                if not rule.concerns(kind, method, path):
                    continue
                if kind == "cut" and rule.after_bytes >= body_bytes:
                    continue  # this body ends before the cut would come
                rule.hits += 1
                return rule
        return None

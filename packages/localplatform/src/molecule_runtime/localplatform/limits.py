"""The rate limiter (contract 1.3): a token bucket for each client address, in memory and bounded."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CLIENTS = 10_000
"""Addresses that are remembered; the one unseen for longest is forgotten, which gives it a full bucket."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the limiter says of one request; whole seconds, as the headers carry them."""

    allowed: bool
    limit: int
    remaining: int
    reset_after: int
    retry_after: int


class RateLimiter:
    """Allows `per_minute` requests a minute to each client, the whole of it at once if it was quiet.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._capacity = per_minute
        self._rate = per_minute / 60
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, client: str) -> Verdict:
        """Count one request of a client."""
        now = self._clock()
        bucket = self._buckets.pop(client, None)
        if bucket is None:
            bucket = _Bucket(float(self._capacity), now)
        bucket.tokens = min(self._capacity, bucket.tokens + max(0.0, now - bucket.filled_at) * self._rate)
        bucket.filled_at = now
        self._buckets[client] = bucket
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        allowed = bucket.tokens >= 1
        if allowed:
            bucket.tokens -= 1
        missing = self._capacity - bucket.tokens
        return Verdict(
            allowed=allowed,
            limit=self._capacity,
            remaining=int(bucket.tokens),
            reset_after=math.ceil(missing / self._rate),
            retry_after=0 if allowed else max(1, math.ceil((1 - bucket.tokens) / self._rate)),
        )

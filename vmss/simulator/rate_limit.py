"""Limits on the rate of a client's calls: a bucket of tokens, from which each call takes its price.

A synchronous call waits until the bucket holds its price; of an asynchronous one the task is there at once, and its
work waits. Nothing is refused. Source: xapi: doc/content/design/rate_limit.md, scripts/call-costs.conf.
"""

from typing import TYPE_CHECKING, List

if TYPE_CHECKING:
    from .call import Origin
    from .simulator import Simulator

# The prices of the calls that do not cost 1.
PRICES = {"VM.checkpoint": 200.0, "event.from": 150.0, "VDI.snapshot": 30.0, "VM.snapshot": 15.0}


class Bucket:
    """The tokens of the clients whose user agent begins with a text: at most `burst`, `rate` more each second."""

    def __init__(self, user_agent: str, burst: float, rate: float, now: float) -> None:
        self.user_agent = user_agent
        self.burst = burst
        self.rate = rate
        self.tokens = burst
        self.filled = now

    def take(self, price: float, now: float) -> float:
        """Take the price, and return the seconds until the bucket would have held it. A price above the burst waits for
        a full bucket, and leaves a debt, as do those that wait already."""
        self.tokens = min(self.burst, self.tokens + max(0.0, now - self.filled) * self.rate)
        self.filled = now
        lacking = min(price, self.burst) - self.tokens
        self.tokens -= price
        return max(0.0, lacking / self.rate)


class RateLimits:
    """All limits; of several that fit a client, the one with the longest text holds."""

    def __init__(self, sim: "Simulator") -> None:
        self.sim = sim
        self.buckets: List[Bucket] = []

    def limit(self, user_agent: str, burst: float, rate: float) -> None:
        """Limit the clients of this user agent; with a rate of 0, no longer."""
        self.buckets = [bucket for bucket in self.buckets if bucket.user_agent != user_agent]
        if rate:
            self.buckets.append(Bucket(user_agent, burst, rate, self.sim.kernel.now()))

    def delay(self, method: str, origin: "Origin") -> float:
        """Take the price of a call, and return by how many seconds the call is late."""
        agent = origin.headers.user_agent
        fitting = [bucket for bucket in self.buckets if agent.startswith(bucket.user_agent)]
        if not fitting:
            return 0.0
        bucket = max(fitting, key=lambda one: len(one.user_agent))
        return bucket.take(PRICES.get(method, 1.0), self.sim.kernel.now())

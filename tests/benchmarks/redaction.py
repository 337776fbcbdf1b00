"""What redaction costs per byte: adversarial text of one character or one near-match, beside prose of the same size.

uv run python -m tests.benchmarks.redaction [--megabytes 10]
"""

from __future__ import annotations

import argparse
import time

from molecule_runtime.core.redaction import redact

PROSE = "The agent read 12 files, asked two peers, and wrote: everything is in order (see /workspace/report.md). "
SAMPLES = {
    "prose": PROSE,
    "one letter": "a",
    "one space": " ",
    "TOKEN_": "TOKEN_",
    "eyJ.": "eyJ.",
    "Bearer ": "Bearer ",
    "-----BEGIN ": "-----BEGIN ",
    "a://b:": "a://b:",
    "sk-": "sk-",
    "aB3/": "aB3/",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=10)
    size = parser.parse_args().megabytes * 1_000_000
    floor = 0.0
    print(f"{'text':<14}  {'seconds':>8}  {'to prose':>8}")
    for name, sample in SAMPLES.items():
        text = (sample * (size // len(sample) + 1))[:size]
        started = time.perf_counter()
        redact(text)
        seconds = time.perf_counter() - started
        floor = floor or seconds
        print(f"{name:<14}  {seconds:8.3f}  {seconds / floor:8.2f}")


if __name__ == "__main__":
    main()

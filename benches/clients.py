#!/usr/bin/env python3
"""Measures an OpenAI-compatible server under parallel clients: tokens a second of all together, time to first token.

    selvedge serve MODEL --port 8422 &           # or: llama-server -m MODEL --port 8080 -np 8 -c 4096
    benches/clients.py http://127.0.0.1:8422/v1  # 8 clients, 256 tokens to read and 64 to write each

Give several URLs to take turns between servers on the same machine: round by round, so that what else the machine does
falls on each alike. Prompts are token numbers, other ones for each client and round, so that every server reads as many
tokens and none knows a prompt from before. Needs nothing but Python.
"""

import argparse
import http.client
import json
import random
import statistics
import sys
import threading
import time
from urllib.parse import urlsplit


def ask(url, body, begin, out):
    """One client: waits for the others, asks, and notes when its tokens came."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)
    try:
        connection.connect()
        begin.wait()
        asked = time.monotonic()
        connection.request(
            "POST", parts.path.rstrip("/") + "/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {answer.read(500).decode(errors='replace')}")
        first, usage = None, None
        for line in answer:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            piece = json.loads(line[6:])
            if "error" in piece:
                raise RuntimeError(str(piece["error"]))
            if first is None and piece.get("choices"):
                first = time.monotonic()
            usage = piece.get("usage") or usage
        if first is None or usage is None:
            raise RuntimeError("the stream told no text or no usage")
        out.append((asked, first, time.monotonic(), usage["prompt_tokens"], usage["completion_tokens"]))
    except Exception as error:  # One that failed makes the figures of the round worthless: it is told, not hidden.
        begin.abort()
        out.append(error)
    finally:
        connection.close()


def round_of(url, args, chance):
    """All clients once: seconds, tokens read, tokens written, and each client's seconds to its first token."""
    begin, out, threads = threading.Barrier(args.clients), [], []
    for _ in range(args.clients):
        body = {
            "model": args.model,
            "prompt": [chance.randrange(args.least, args.vocabulary) for _ in range(args.prompt)],
            "max_tokens": args.write,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
        }
        threads.append(threading.Thread(target=ask, args=(url, body, begin, out)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in out:
        if isinstance(one, Exception) and not isinstance(one, threading.BrokenBarrierError):
            sys.exit(f"{url}: {one}")
    seconds = max(one[2] for one in out) - min(one[0] for one in out)
    return seconds, sum(one[3] for one in out), sum(one[4] for one in out), [one[1] - one[0] for one in out]


def main():
    """Warms each server up, then takes turns."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("url", nargs="+", help="where a server's API begins, such as http://127.0.0.1:8422/v1")
    reader.add_argument("--model", default="", help="as the server calls it")
    reader.add_argument("--clients", type=int, default=8)
    reader.add_argument("--prompt", type=int, default=256, help="tokens that each client has read")
    reader.add_argument("--write", type=int, default=64, help="tokens that each client has written")
    reader.add_argument("--rounds", type=int, default=3)
    reader.add_argument("--least", type=int, default=300, help="the smallest token number of a prompt")
    reader.add_argument("--vocabulary", type=int, default=30_000, help="one more than the largest")
    reader.add_argument("--seed", type=int, default=1)
    args = reader.parse_args()
    chance = random.Random(args.seed)
    found = {url: [] for url in args.url}
    for url in args.url:
        round_of(url, args, chance)
    for _ in range(args.rounds):
        for url in args.url:
            found[url].append(round_of(url, args, chance))
    for url, rounds in found.items():
        firsts = sorted(first for one in rounds for first in one[3])
        at = lambda share: 1e3 * firsts[min(len(firsts) - 1, int(share * len(firsts)))]
        print(
            f"{url}: read {rounds[0][1]} and wrote {rounds[0][2]} tokens a round,",
            f"{statistics.median((read + wrote) / s for s, read, wrote, _ in rounds):.1f} tokens/s together,",
            f"{statistics.median(wrote / s for s, _, wrote, _ in rounds):.1f} written tokens/s,",
            f"first token after {at(0.5):.0f} ms (p50), {at(0.95):.0f} ms (p95); {len(rounds)} rounds",
        )


if __name__ == "__main__":
    main()

"""A day's work in a short time: many jobs pass through a store, and one in a hundred stays. The store's size on disk stays below twice
its live data and two segments. The index stays below four times its content and a constant."""
import os, json

from .world import World

STREAM = r'''#!/usr/bin/python3 -IS
import sys
jobs, answers = sys.stdin.buffer, sys.stdout.buffer
while header := jobs.readline():
    jobs.read(int(header.split(b" ", 1)[0]))
    answers.write(b"0\n")
    answers.flush()
'''
ROUNDS = 20
LARGE = 1_000_000  # with so many jobs, segments have their usual size


def churn(directory, seed, jobs, **_):
    w = World(os.path.join(directory, "w"), seed)
    drain = w.dir / "drain"
    drain.write_text(STREAM)
    drain.chmod(0o755)
    w.run("gq-enqueue", "stays", "--local", "--delay", "1d")
    segment = 64 << 20 if jobs >= LARGE else 1 << 20
    w.settings(segment_size=str(segment), clean_after="0s", remember="2s")
    lines, few = w.dir / "lines", w.dir / "few"
    lines.write_text("".join(f"{n:0199}\n" for n in range(jobs // ROUNDS * 99 // 100)))
    few.write_text("".join(f"{n:0199}\n" for n in range(jobs // ROUNDS // 100)))
    most = most_index = 0.0
    for n in range(ROUNDS):
        for source, *options in (lines, "passes"), (few, "stays", "--delay", "1d"):
            w.run("gq-enqueue", *options, "--local", "-l", source, seconds=600)
        w.run("gq-flush", "-f", "passes", "-j", 2, "--stream", "--", drain, seconds=1200)
        journal = sum(f.stat().st_size for f in (w.store / "journal").glob("*.gqj"))
        code, text = w.output("gq-inspect", "stats", "--json")
        live = next(j["live_bytes"] for j in map(json.loads, text.splitlines()) if "live_bytes" in j)
        stays = next(j["delayed"] for j in map(json.loads, text.splitlines()) if j.get("function") == "stays")
        w.expect(stays == len(few.read_text().splitlines()) * (n + 1) + 1, f"{stays} jobs stay after round {n}")
        most = max(most, journal / (2 * live + 2 * segment))
        index = (w.store / "index.tcb").stat().st_size
        most_index = max(most_index, index / 1e6)
        w.expect(journal <= 2 * live + 2 * segment, f"round {n}: the journal has {journal} bytes, {live} of them needed")
        w.expect(index <= (64 << 20) + 4 * 200 * jobs // ROUNDS * 3, f"round {n}: the index has {index} bytes")
        if w.problems:
            break
    w.run("gq-inspect", "check", seconds=600)
    return w, f"{ROUNDS} rounds; the journal at most {most:.2f} of twice what is needed and two segments, the index at most {most_index:.0f} MB"

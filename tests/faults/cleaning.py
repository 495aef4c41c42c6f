"""The journal is cleaned while every kind of event happens to jobs, and the cleaner is killed at some of its calls."""
import os

from .world import FUNCTION, World

WRITES = "pwrite64,write,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,link,linkat,openat,ftruncate,fallocate"


def cleaning(directory, seed, short=True, rounds=None, **_):
    w = World(os.path.join(directory, "w"), seed)
    remembers = w.random.random() < 0.5
    # A command that now and then fails or kills itself.
    ledger = w.command.readlink()
    w.command.unlink()
    w.command.write_text(f"#!/bin/sh\ncase $(($(od -An -N1 -tu1 /dev/urandom) % 9)) in 0) exit 1 ;; 1) kill -9 $$ ;; esac\nexec {ledger}\n")
    w.command.chmod(0o755)
    w.run("gq-enqueue", "idle", "--local", "--delay", "1h")
    w.settings(remember="1h" if remembers else "0s", clean_after="0s", segment_size=w.random.choice(["20K", "60K", "300K"]))
    killed = checks = 0
    keyed, given, kept, sources, others, failed = {}, {}, {}, {}, set(), {}
    ids = lambda state: [j for j, s in w.held().items() if s == state]
    pick = lambda some: w.random.choice(sorted(some)) if some else None

    def enqueue(*options, sizes=None):
        batch = w.enqueue("enqueue", sizes or [w.random.choice([0, 10, 200, 5000, 70000]) for _ in range(w.random.randint(1, 40))], "--local", *options)
        w.wait(batch.process)
        return batch

    def key(key_):
        # The same key and workload is one job while its window lasts, whatever was cleaned since.
        code, text = w.output("gq-enqueue", "other", "--local", "--key", key_, "--key-window", "1h", codes=(0,))
        first = keyed.setdefault(key_, text)
        w.expect(text == first, f"the key {key_} stood for {first.strip()}, and now for {text.strip()}")

    def workload(id):
        out = w.dir / "workload"
        with open(out, "wb") as f:
            w.run("gq-inspect", "cat", id, codes=None, stdout=f)
        return out.read_bytes()

    def brief_key():
        # A key whose window ends soon. The next job with that key is another job, and must not be taken for the one before.
        code, text = w.output("gq-enqueue", "other", "--local", "--key", w.random.choice("xy"), "--key-window", w.random.choice(["0s", "100ms"]))
        others.add(text.strip())

    def twice():
        # The journal gets another add of each job.
        with open(w.dir / "stream", "wb") as out:
            w.run("gq-snapshot", "export", stdout=out)
        with open(w.dir / "stream", "rb") as in_:
            w.run("gq-snapshot", "import", stdin=in_)

    def again():
        id = pick(given)
        if id and remembers:
            w.run("gq-enqueue", FUNCTION, "--local", "--id", id, given[id])
            again.done.add(id)
    again.done = set()

    def new_given():
        batch = enqueue(sizes=[100])
        for id in batch.printed():
            given[id] = batch.process.text.split(" ")[-1]

    def keep():
        id = pick(ids("queued"))
        if id and w.run("gq-flush", "--keep", id, codes=(0, 1)) == 0:
            kept[id] = workload(id)

    def release():
        id = pick(kept)
        if id and w.run("gq-flush", "--release", id, codes=(0, 1)) == 0:
            kept.pop(id)

    def part():
        id = pick(kept)
        if id and len(kept[id]) > 20:
            code, text = w.output("gq-enqueue", "part", "--local", "--from", id, "--range", f"3:{len(kept[id]) // 2}", codes=(0, 65))
            if code == 0:
                sources[text.strip()] = kept[id]

    def part_ends():
        w.run("gq-flush", "-f", "part", "--", "true")
        w.run("gq-flush", "-f", "other", "--", "sh", "-c", f'echo "$GQ_JOB_ID" >>{w.dir}/others')

    def fails():
        # The state of these jobs is only in the records of their failures.
        _, text = w.output("gq-enqueue", "bad", "--local", codes=(0,))
        most = w.random.choice([1, 2])
        w.run("gq-flush", "-q", "-f", "bad", "--max-attempts", str(most), "--backoff", "1h", "--", "false")
        failed[text.strip()] = {1: "dead", 2: "delayed"}[most]

    def person():
        id = pick(w.held())
        what = w.random.choice(["--drop", "--kick", "--pause", "--resume", "--kick"])
        if what in ("--pause", "--resume"):
            w.run("gq-flush", what, w.random.choice([FUNCTION, "idle"]))
        elif id and id not in {*kept, *sources, *others, *failed} and w.run("gq-flush", what, id, codes=(0, 1)) == 0 and what == "--drop":
            w.dropped.add(id)

    def clean():
        nonlocal killed
        if w.random.random() < 0.5:
            return w.run("gq-flush", "--clean")
        code = w.run("gq-flush", "--clean", codes=None, wrap=("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={WRITES}", "-e",
                                                              f"inject={WRITES}:signal=SIGKILL:when={w.random.randint(1, 80)}"))
        w.expect(code in (0, -9, 137), f"gq-flush --clean ended with {code}")
        killed += code != 0

    ops = [enqueue, enqueue, lambda: enqueue("--serial", w.random.choice("ab"), sizes=[10] * 5), lambda: enqueue("--priority", "high"),
           lambda: enqueue("--delay", "1s"), lambda: key(w.random.choice("klm")), brief_key, brief_key, brief_key, twice, again, new_given, fails, fails, keep, keep, release, part, part, part_ends, person, clean, clean, clean,
           lambda: w.flush().wait(), lambda: w.flush().wait()]
    for n in range(rounds or (60 if short else 400)):
        w.random.choice(ops)()
        if w.problems:
            break
        if n % 4 == 0:
            code, text = w.output("gq-inspect", "check", codes=None)
            checks += 1
            if not w.expect(code == 0, f"gq-inspect check answers {code} after step {n}: {text[:500]}"):
                break
        for id in kept:
            if id in w.held():
                continue
            w.wrong(f"{id} was kept, and is gone")
    part_ends()
    for id in others - set((w.dir / "others").read_text().split()):
        w.wrong(f"{id} had a key and was acknowledged, and never ran")
    held = w.held()
    for id, state in failed.items():
        w.expect(held.get(id) == state, f"{id} was {state}, and is {held.get(id)}")
    for what in FUNCTION, "idle":
        w.run("gq-flush", "--resume", what)
    for id, text in kept.items():
        w.expect(workload(id) == text, f"the workload of {id} was kept and is another one")
    for id, text in sources.items():
        if id in w.held():
            w.expect(workload(id) == text[3:3 + len(text) // 2], f"{id} is not the part of a workload that it was")
    w.run("gq-flush", "--clean")
    w.work_off()
    w.run("gq-flush", "--clean")
    line = w.oracle()
    return w, f"{line}, {n + 1} steps, " \
              f"{checks} checks, {killed} cleaners killed, {len(list((w.store / 'journal').glob('*.gqj')))} segments left"

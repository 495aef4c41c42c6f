"""Each program is killed, or gets an error, at its n-th call of each system call that matters, with n from 1 until the program
ends without having met the fault. The short form takes a sample of n that depends on the seed; with sanitizers, one n.
"""
import collections, itertools, os, random, re, shutil, signal, subprocess, tempfile, time

from .world import Batch, FUNCTION, World, children, sanitized, wait_until

WRITES = ("write", "pwrite64", "fdatasync", "fsync", "rename,renameat,renameat2", "link,linkat", "unlink,unlinkat", "ftruncate", "msync", "fallocate", "mkdir,mkdirat")
READS = ("read", "pread64")
MAKES = ("openat", "flock", "clone3,vfork,clone", "memfd_create", "pipe2")
MAKES_LARGER = ("write", "pwrite64", "rename,renameat,renameat2", "link,linkat", "ftruncate", "fallocate", "mkdir,mkdirat", "openat")
KILL = "signal=SIGKILL"
# After each of these exit codes, the state of an unfinished job is at worst unknown.
MAY_END = (0, 65, 66, 69, 74, 75, 78, 124, 127)  # 124: told to stop by timeout(1); 127: the linker could not read a library


# How each program is set up and run: a function that prepares the world and returns (argv, stdout).
def enqueue_local(w, wrap):
    return w.enqueue("victim", [0, 10, 70000, 5], "--local", wrap=wrap).process


def enqueue_served(w, wrap):
    w.gearmand()
    w.spawn("worker", "gq-worker", "-f", FUNCTION, "--queue-only")
    wait_until(w.served)
    return w.enqueue("victim", [0, 10, 70000, 5], "--timeout", "1s", wrap=wrap).process


def intake(w, wrap):
    """The victim is a worker that only queues. A gq-enqueue sends to it, and then SIGTERM stops the worker."""
    w.gearmand()
    p = w.spawn("victim", "gq-worker", "-f", FUNCTION, "--queue-only", wrap=wrap)
    wait_until(lambda: w.served() or p.poll() is not None, 3)
    if p.poll() is None:
        b = w.enqueue("sender", [0, 10, 70000, 5], "--timeout", "1s")
        w.wait(b.process, codes=(0, 69, 75))
        for pid in children(p) or [p.pid]:  # strace(1) runs the victim as a child, prlimit(1) becomes the victim
            os.kill(pid, signal.SIGTERM)
    return p


def replica(w, wrap):
    """The victim stores the jobs that another node of its group accepts, and acknowledges them."""
    w.gearmand()
    origin = w.dir / "origin"
    for name, store in ("rep_1", origin), ("rep_2", w.store):
        w.run("gq-replicate", "init", "--store", store, "--as", name, "--group", "rep_1,rep_2")
    p = w.spawn("victim", "gq-replicate", wrap=wrap)
    wait_until(lambda: w.served(function="rep_2") or p.poll() is not None, 3)
    if p.poll() is None:
        b = w.enqueue("sender", [0, 10, 70000, 5], "--local", "--store", origin, "--peer-timeout", "1s")
        w.wait(b.process, codes=(0, 75))
        for pid in children(p) or [p.pid]:
            os.kill(pid, signal.SIGTERM)
    return p


def prepared(w, leave_running=False):
    w.wait(w.enqueue("prepare", [0, 10, 70000, 5], "--local").process)
    if leave_running:
        p = w.worker("dying", "--local", "-j", 2, env={"COMMAND_SECONDS": "0.05"})
        wait_until(lambda: w.ledger.stat().st_size)
        w.kill("dying")


def worker(w, wrap):
    prepared(w)
    return w.worker("victim", "--local", "--drain", "-j", 2, wrap=wrap)


def flush(w, wrap):
    prepared(w, leave_running=True)
    return w.flush("victim", "-j", 2, wrap=wrap)


def stream(w, wrap):
    """A worker that feeds a command many jobs, some of them with a serial key or a key."""
    for options in ["--serial", "s"], ["--serial", "s"], ["--key", "k"], ["--priority", "high"]:
        w.wait(w.enqueue("prepare", [10], "--local", *options).process)
    prepared(w)
    return w.spawn("victim", "gq-worker", *w.work, "--local", "--drain", "-j", 2, "--stream", "--", w.command, "--stream", wrap=wrap)


def pipe(w, wrap):
    """The outputs of two jobs become the jobs that the oracle judges: each must run, and under one ID however often its parent ran."""
    tags = []
    for sizes in [0, 10, 70000, 5], [20] * 20:
        items, some = w.items(sizes)
        source = w.dir / f"in.{w.serial}"
        source.write_bytes(b"\0".join(items))
        w.batches.append(Batch(w.dir / f"out.{w.serial}", some))
        w.run("gq-enqueue", "make", "--local", source)
        tags += some
    stage = ["gq-worker", "-f", "make", *w.work[2:], "--local", "--drain", "-j", 2, "--then-null", "--then", FUNCTION, "--", "cat"]

    def after():
        w.output("gq-flush", "--kick-dead")
        w.run(*stage)
        w.work_off(seconds=30)
        ran = {tag for event, _, tag in w.events() if event == "end"}
        w.expect(ran >= set(tags), f"{len(set(tags) - ran)} items of {len(tags)} did not become jobs")
    w.after = after
    return w.spawn("victim", *stage, wrap=wrap)


def runs_after(w, parents, children):
    """Runs all jobs, and checks that no job has started before the jobs that it is after had ended."""
    w.output("gq-flush", "--kick-dead")
    w.work_off(seconds=30)
    ended = set()
    for event, _, tag in w.events():
        if event == "end":
            ended.add(tag)
        w.expect(event != "start" or tag not in children or ended >= set(parents), f"{tag} started before the jobs that it is after had ended")


def after(w, wrap):
    """The victim queues jobs that are after others."""
    prepared(w)
    parents = w.batches[0]
    batch = w.enqueue("victim", [0, 10, 70000], "--local", "--after", ",".join(parents.printed()), wrap=wrap)
    w.after = lambda: runs_after(w, parents.tags, batch.tags)
    return batch.process


def wake(w, wrap):
    """The victim runs jobs, and then those that are after them."""
    prepared(w)
    parents = w.batches[0]
    children = w.enqueue("children", [10] * 3, "--local", "--after", ",".join(parents.printed()))
    w.wait(children.process)
    w.after = lambda: runs_after(w, parents.tags, children.tags)
    return w.worker("victim", "--local", "--drain", "-j", 2, wrap=wrap)


def change(w, wrap):
    """A user drops a job and kicks another one, while no worker runs."""
    prepared(w)
    w.run("gq-worker", "--local", "--drain", "-f", FUNCTION, "--", "sh", "-c", "exit 100")
    ids = [id for b in w.batches for id in b.printed()]
    w.dropped.add(ids[0])
    return w.spawn("victim", "gq-flush", "--drop", ids[0], "--kick-dead", "--pause", "other", wrap=wrap)


def rebuild(w, wrap):
    prepared(w, leave_running=True)
    for name in "index.tcb", "index.seal":
        (w.store / name).unlink(missing_ok=True)
    return w.spawn("victim", "gq-inspect", "check", wrap=wrap)


def clean(w, wrap):
    """Most of the journal that the victim cleans is garbage, and some of it is live."""
    w.wait(w.enqueue("prepare", [10] * 40, "--local").process)
    w.settings(segment_size="4K", clean_after="0s", remember=w.random.choice(["0s", "1h"]))
    w.work_off()
    prepared(w)
    w.wait(w.enqueue("prepare", [3000] * 3, "--local").process)
    # A blob that a crash left.
    orphan = w.store / "blobs/ZZ/01HZZZZZZZZZZZZZZZZZZZZZZZ"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x" * 70000)
    time.sleep(0.2)
    return w.spawn("victim", "gq-flush", "--clean", wrap=wrap)


def snapshot(w, wrap):
    prepared(w)
    snapshots = w.dir / "snapshots"
    w.run("gq-snapshot", "create", snapshots)

    def after():
        # Each snapshot that is there is whole.
        w.run("gq-snapshot", "verify", snapshots)
        for n, line in enumerate(w.output("gq-snapshot", "list", snapshots)[1].splitlines()):
            w.run("gq-snapshot", "restore", snapshots / line.split("\t")[0], "--store", w.dir / f"restored.{n}")
            w.run("gq-inspect", "check", "--store", w.dir / f"restored.{n}")
        # prune keeps a directory that is younger than an hour by its name, so each gets an older name.
        for n, left in enumerate(snapshots.glob("tmp.*")):
            left.rename(snapshots / f"tmp.01HZZZZZZZZZZZZZZZZZZZZZ{n:02}")
        w.run("gq-snapshot", "prune", snapshots, "--keep-last", 1)
        w.expect(len(list(snapshots.iterdir())) == 1, "prune does not remove what a killed gq-snapshot create left")
    w.after = after
    return w.spawn("victim", "gq-snapshot", "create", snapshots, wrap=wrap)


def restore(w, wrap):
    """The restored store has all jobs that were acknowledged before the snapshot."""
    prepared(w, leave_running=True)
    # The restored store does not know of a command that outlived its worker here.
    w.expect(wait_until(lambda: subprocess.run(["pgrep", "-f", str(w.command)], stdout=subprocess.DEVNULL).returncode), "a command does not end")
    w.run("gq-snapshot", "create", w.dir / "snapshots")

    def again():
        if not (w.dir / "restored/gq.json").exists():
            w.run("gq-snapshot", "restore", w.dir / "snapshots", "--store", w.dir / "restored")
        w.use(w.dir / "restored")
    w.after = again
    return w.spawn("victim", "gq-snapshot", "restore", w.dir / "snapshots", "--store", w.dir / "restored", wrap=wrap)


def import_(w, wrap):
    prepared(w)
    stream = w.dir / "stream"
    with open(stream, "wb") as out:
        w.run("gq-snapshot", "export", stdout=out)

    def again():
        with open(stream, "rb") as in_:
            w.run("gq-snapshot", "import", stdin=in_)
    w.use(w.dir / "imported")
    w.after = again
    return w.spawn("victim", "gq-snapshot", "import", stdin=open(stream, "rb"), wrap=wrap)


PROGRAMS = {"enqueue --local": enqueue_local, "enqueue": enqueue_served, "worker intake": intake, "replica": replica, "worker": worker,
            "pipe": pipe, "after": after, "wake": wake, "stream": stream, "flush": flush, "change": change, "inspect": rebuild, "clean": clean, "snapshot": snapshot, "restore": restore, "import": import_}


def one(directory, seed, program, wrap, kills=False, met=lambda code: True, may_end=MAY_END):
    """Runs one program behind `wrap`, and returns the World with its problems. `kills`: the fault ends the program that
    meets it."""
    w = World(directory, seed)
    try:
        p = PROGRAMS[program](w, wrap)
        code = w.wait(p, seconds=30, codes=None)
        w.met = met(code)
        if not kills or not w.met:
            w.expect(code in may_end or (program == "inspect" and code == 1),
                     f"{program} ended with {code}: {open(p.err, errors='replace').read()[-300:]}")
            if code > 0 and code != 127 and program != "inspect":
                w.expect(open(p.err).read().strip(), f"{program} ended with {code} and said nothing")
            for b in w.batches:
                if b.process is p and code == 0:
                    w.expect(len(b.printed()) == len(b.tags), "gq-enqueue ended with 0 and printed too few IDs")
        for name in list(w.running):
            w.kill(name)
        if hasattr(w, "after"):
            w.after()
        if (w.store / "gq.json").exists():
            w.output("gq-flush", "--kick-dead")
            w.work_off(seconds=30)
            w.oracle()
        else:
            w.expect(not any(b.printed() for b in w.batches), "jobs were acknowledged, but the store has no gq.json")
        return w
    finally:
        w.end_all()


def one_call(directory, seed, program, call, injection, n):
    trace = directory + ".trace"
    # strace detaches at execve, so that only the program itself meets the fault, not its commands.
    wrap = ["strace", "-f", "-b", "execve", "-o", trace, "-e", f"trace={call}", "-e", f"inject={call}:{injection}:when={n}"]
    kills = injection == KILL
    # Tokyo Cabinet crashes if the last call of a close fails, which unlinks its log. (gq has unlinked the log before, so that the
    # disk would have to fail in between.) The crash may not lose anything.
    may_end = MAY_END + ((-signal.SIGSEGV,) if call == "unlink,unlinkat" else ())
    return one(directory, seed, program, wrap, kills,
               lambda code: "(INJECTED)" in open(trace).read() or (kills and code in (-9, 137)), may_end)


def count_calls(directory, seed, program, calls):
    """How often a thread of the program makes each of these calls when nothing fails. As strace(1), it counts each name by itself."""
    trace = directory + ".trace"
    w = one(directory, seed, program, ["strace", "-f", "-b", "execve", "-o", trace, "-e", "trace=" + ",".join(calls)])
    each = collections.Counter(re.findall(r"^(\d+) +(\w+)\(", open(trace, errors="replace").read(), re.M))
    most = collections.Counter()
    for (thread, name), n in each.items():
        for call in calls:
            if name in call.split(","):
                most[call] = max(most[call], n)
    return w, most


def spread(random, most):
    """One n from each of the ranges 1 to 2, 3 to 34, 35 to 594, ... up to `most`."""
    low, width = 1, 2
    while low <= most:
        yield low + int(random.random() * min(width, most - low + 1))
        low += width
        width = 16 * low


def sample(random, most):
    drawn = list(spread(random, most))
    return drawn if not sanitized() else drawn and [random.choice(drawn)]


def sweep(directory, seed, calls, injections, short=True, **_):
    """Tries every program, call and injection (the short form: one injection), up to the first problem."""
    met = tries = 0
    summary = World(os.path.join(directory, "summary"), seed)
    if sanitized() and KILL not in injections:
        calls = [c for c in calls if c not in ("write", "read", "pipe2", "openat")]  # the sanitizers' own calls of these may not fail
    for program in PROGRAMS:
        with tempfile.TemporaryDirectory(dir=directory) as d:
            w, most = count_calls(os.path.join(d, "w"), seed, program, calls)
            if w.problems:
                summary.problems += [f"{program}, without a fault: {p}" for p in w.problems]
                return summary, ""
        for call in calls:
            rng = random.Random(f"{seed} {program} {call}")
            for injection in [rng.choice(injections)] if short else injections:
                for n in sample(rng, most[call]) if short else itertools.count(1):
                    with tempfile.TemporaryDirectory(dir=directory) as d:
                        w = one_call(os.path.join(d, "w"), seed, program, call, injection, n)
                        met += w.met
                        tries += 1
                        if w.problems:
                            summary.problems += [f"{program}, {call}, {injection}, n = {n}: {p}" for p in w.problems]
                            if os.environ.get("KEEP"):
                                shutil.copytree(w.dir, os.path.join(os.environ["KEEP"], f"{met}"), symlinks=True)
                            return summary, ""
                    if not short and not w.met:
                        break
    summary.expect(met > tries // 2, f"the programs met only {met} of {tries} faults")
    return summary, f"{met} faults met"


def killed_at_calls(directory, seed, **more):
    return sweep(directory, seed, WRITES, [KILL], **more)


def failing_calls(directory, seed, **more):
    return sweep(directory, seed, WRITES + READS + MAKES, ["error=EIO"], **more)


def full_at_calls(directory, seed, **more):
    return sweep(directory, seed, MAKES_LARGER, ["error=ENOSPC", "error=EDQUOT"], **more)

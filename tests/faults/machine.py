"""The machine: descriptors, memory and processes run out, the clock jumps, pids are reused, and the store cannot be written or is
on a network file system."""
import concurrent.futures, os, pathlib, subprocess, tempfile, time

from . import calls
from .world import at_time, World


def exhausted(directory, seed, short=True, **_):
    """In every program descriptors or memory run out, or no process can be created. The program ends or goes on, says why, and
    loses nothing."""
    step = 10 if short else 1
    limits = [["prlimit", f"--nofile={n}"] for n in range(4, 40, step)]
    limits += [["prlimit", f"--as={n << 20}"] for n in range(10, 130, 8 * step)]
    summary = World(os.path.join(directory, "summary"), seed)

    def at_limit(program, wrap):
        with tempfile.TemporaryDirectory(dir=directory) as d:
            # A worker waits and retries, as on a full disk, until SIGTERM stops it.
            w = calls.one(os.path.join(d, "w"), seed, program, ["timeout", "-k", "10", "3", *wrap])
            return [f"{program}, {' '.join(wrap)}: {p}" for p in w.problems]

    # Several run at a time, because most of them wait.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(at_limit, program, wrap) for program in calls.PROGRAMS for wrap in limits]
    for run in runs:
        summary.problems += run.result()
    return summary, f"{len(runs)} runs at a limit"


def clock(directory, seed, short=True, **_):
    """Each program has a clock of its own, from two years behind to two years ahead."""
    w = World(directory, seed, seconds="0.01")
    try:
        w.gearmand()

        def at():
            return at_time(86400 * w.random.choice((-700, -1, 0, 0, 1, 700)))
        for round in range(3 if short else 30):
            w.worker("worker", "-j", 2, env=at())
            for n in range(6):
                for name, options in ("enqueue", ["--timeout", "3s"]), ("local", ["--local"]):
                    if not w.alive(name):
                        w.enqueue(name, [10, 70000], *options, env=at())
                w.flush("flush", env=at())
                time.sleep(0.2)
            w.kill("worker")
        for name in "enqueue", "local", "flush":
            w.wait(w.running[name], codes=(0, 75))
        w.work_off()
        return w, w.oracle()
    finally:
        w.end_all()


def pids(directory, seed, short=True, **_):
    """In a pid namespace, the next process gets the pid of the worker that was killed, or of its command."""
    w = World(directory, seed, seconds="0.3")
    w.wait(w.enqueue("local", [10] * 6, "--local").process)
    script = f"""
      work() {{ gq-worker --local {' '.join(w.work)} -j 2 -- {w.command} & }}
      for n in 1 2 3; do
        work; victim=$!
        sleep 0.15
        kill -9 $victim; wait $victim
        echo $((victim - 1)) >/proc/sys/kernel/ns_last_pid
        work; same=$!
        [ $same = $victim ] || echo "the pid was not the same: $victim $same" >&2
        echo $((victim + 1)) >/proc/sys/kernel/ns_last_pid
        gq-flush {' '.join(w.work)} -- {w.command}
        kill $same; wait $same || [ $? = 143 ]  # the worker may not have set up its signal handlers yet
      done"""
    try:
        w.run("unshare", "-pf", "--mount-proc", "sh", "-c", script)
        said = pathlib.Path(w.running["run"].err).read_text()
        w.expect("not the same" not in said, said)
        w.work_off()
        return w, w.oracle()
    finally:
        w.end_all()


def refused(directory, seed, short=True, **_):
    """On a read-only store and on one that other machines could write to, each program says so and changes nothing."""
    w = World(directory, seed)
    ways = 0
    try:
        w.wait(w.enqueue("local", [10, 70000], "--local").process)
        programs = {"enqueue": ["gq-enqueue", "f", "--local", "/dev/null"],
                    "worker": ["gq-worker", "--local", "--drain", "-f", "f", "--", "true"],
                    "queue-only": ["gq-worker", "--queue-only", "-f", "f"],
                    "flush": ["gq-flush", "-f", "f", "--", "true"],
                    "inspect": ["gq-inspect", "check"]}
        def files():
            return {p: p.read_bytes() for p in w.store.rglob("*") if p.is_file()}
        before = files()
        subprocess.run(["mount", "--bind", str(w.store), str(w.store)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(w.store)], check=True)
        try:
            for name, argv in programs.items():
                w.run(*argv, codes=(74, 78), seconds=20)
                w.expect(b"Read-only" in pathlib.Path(w.running["run"].err).read_bytes(), f"{name}: no reason given")
                ways += 1
        finally:
            subprocess.run(["umount", str(w.store)], check=True)
        w.expect(files() == before, "a read-only store was changed")
        # The types that statfs(2) reports for NFS, cluster file systems, FUSE and SMB.
        for magic in "6969", "7461636f", "65735546", "01161970", "fe534d42":
            f_type = bytes.fromhex(magic.zfill(8))[::-1].hex()
            for name, argv in programs.items():
                w.run(*argv, codes=(78,), seconds=20,
                      wrap=["strace", "-f", "-o", "/dev/null", "-e", "trace=statfs,fstatfs", "-e", f"inject=statfs,fstatfs:poke_exit=@arg2={f_type}"])
                w.expect(b"network file system" in pathlib.Path(w.running["run"].err).read_bytes(), f"{name}: no reason given")
                ways += 1
        w.expect(files() == before, "a store on a network file system was changed")
        w.work_off()
        return w, f"{ways} refusals; {w.oracle()}"
    finally:
        w.end_all()

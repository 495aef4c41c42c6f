"""A long run of one gq-worker under valgrind(1) while everything around it fails: neither its descriptors nor its memory grow,
and valgrind finds no error."""
import os, pathlib, re, signal, time

from .disk import Disk
from .world import World, wait_until

WARM_UP = 0.2  # this share of the time, threads, buffers and the index still grow to their usual sizes


def status(p):
    """Descriptors, KiB of anonymous memory, and threads of a process. The index is a mapped file, and may grow with the jobs."""
    proc = pathlib.Path("/proc", str(p.pid))
    text = (proc / "status").read_text()
    return len(os.listdir(proc / "fd")), *(int(re.search(rf"^{key}:\s+(\d+)", text, re.M)[1]) for key in ("RssAnon", "Threads"))


def soak(directory, seed, minutes=60.0, **_):
    disk = Disk(directory, "tmpfs", 400)
    w = World(os.path.join(directory, "w"), seed, store=disk.mount_point / "store")
    ballast = disk.mount_point / "ballast"
    log = os.path.join(directory, "valgrind")
    samples = []
    try:
        w.gearmand()
        w.worker("soaked", "-j", 2, wrap=["valgrind", f"--log-file={log}", "--leak-check=full", "--track-fds=yes",
                                          "--child-silent-after-fork=yes", "--error-exitcode=98"])
        w.expect(wait_until(w.served, 60), "the worker does not come up")
        start = time.monotonic()
        while (passed := (time.monotonic() - start) / 60) < minutes and w.alive("soaked"):
            if not w.alive("gearmand"):
                w.gearmand()
            if not w.alive("other"):
                w.worker("other", "-j", 2)
            if not w.alive("flush") and w.random.random() < 0.1:
                w.flush("flush")
            for name, options in ("enqueue", ["--timeout", "5s"]), ("local", ["--local"]):
                if not w.alive(name):
                    w.enqueue(name, [w.random.choice((0, 10, 1000, 1000, 100000)) for _ in range(w.random.randint(1, 40))], *options)
            time.sleep(w.random.random())
            what = w.random.random()
            if what < 0.1:
                w.kill(w.random.choice(("gearmand", "other", "flush", "enqueue", "local")))
            elif what < 0.13 and w.alive("gearmand"):
                w.running["gearmand"].send_signal(signal.SIGSTOP)
                time.sleep(w.random.random() * 3)
                w.running["gearmand"].send_signal(signal.SIGCONT)
            elif what < 0.16:
                stat = os.statvfs(disk.mount_point)
                try:
                    ballast.write_bytes(bytes(max(0, stat.f_bavail * stat.f_bsize - w.random.choice((0, 100000, 2000000)))))
                except OSError:  # the programs have taken the space before
                    pass
                time.sleep(w.random.random() * 3)
                ballast.unlink()
            if passed > minutes * WARM_UP:
                samples.append(status(w.running["soaked"]))
        w.expect(w.alive("soaked"), "the worker ended")
        w.running["soaked"].terminate()
        w.wait(w.running["soaked"], seconds=120)
        text = pathlib.Path(log).read_text(errors="replace")
        w.expect("ERROR SUMMARY: 0 errors" in text, text[-2000:])
        w.expect(not re.search(r"definitely lost: [1-9]", text), text[-2000:])
        third = len(samples) // 3
        early, late = samples[:third], samples[-third:]
        said = []
        for n, (what, allowed) in enumerate((("descriptors", 1.0), ("own KiB", 1.1), ("threads", 1.0))):
            before, after = max(s[n] for s in early), max(s[n] for s in late)
            said.append(f"{what} {before} then {after}")
            w.expect(after <= before * allowed + (4 if n != 1 else 0), f"{what} grew from {before} to {after}")
        w.kill("gearmand")
        w.work_off()
        return w, f"{w.oracle()}; {', '.join(said)}"
    finally:
        w.end_all()
        disk.unmount()

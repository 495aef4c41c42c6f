"""The disk: a power cut at random moments under load (and during what follows it), and a disk that is full."""
import os, pathlib, subprocess, time

from .world import World, wait_until


class Disk:
    """A file system of its own on a loop device, or a tmpfs."""

    def __init__(self, directory, kind, megabytes):
        self.kind = kind
        self.mount_point = pathlib.Path(directory) / "disk"
        self.mount_point.mkdir()
        self.image = pathlib.Path(directory) / "image"
        self.size = megabytes << 20
        if kind != "tmpfs":
            with open(self.image, "wb") as f:
                f.truncate(self.size)
            subprocess.run([f"mkfs.{kind}", "-q", str(self.image)], check=True, stdout=subprocess.DEVNULL)
        self.mount()

    def mount(self):
        what = ["-t", "tmpfs", "-o", f"size={self.size}", "tmpfs"] if self.kind == "tmpfs" else ["-o", "loop", str(self.image)]
        subprocess.run(["mount", *what, str(self.mount_point)], check=True)

    def unmount(self):
        # A command that outlived its worker may still hold a file.
        unmounted = lambda: subprocess.run(["umount", str(self.mount_point)], stderr=subprocess.DEVNULL).returncode == 0
        if not wait_until(unmounted, 20):
            subprocess.run(["umount", "-l", str(self.mount_point)])

    def cut_power(self):
        """Nothing that is not on the disk by now gets there any more."""
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", str(self.mount_point)], check=True, stdout=subprocess.DEVNULL)


def load(w):
    if not w.alive("gearmand"):
        w.gearmand()
    for name in "worker1", "worker2":
        if not w.alive(name):
            w.worker(name, "-j", 2)
    w.flush("flush", "-j", 2)
    for name, options in ("enqueue", ["--timeout", "3s"]), ("local", ["--local"]):
        if not w.alive(name):
            w.enqueue(name, [w.random.choice((0, 10, 1000, 1000, 70000)) for _ in range(w.random.randint(1, 400))], *options)


def power_cut(directory, seed, short=True, rounds=None, **_):
    said = []
    for kind in "ext4", "xfs":
        d = os.path.join(directory, kind)
        os.mkdir(d)
        disk = Disk(d, kind, 320)
        w = World(os.path.join(d, "w"), seed, store=disk.mount_point / "store", seconds="0.01")
        try:
            for round in range(rounds or (6 if short else 40)):
                load(w)
                time.sleep(w.random.choice((0.02, 0.2, 1.0)) * w.random.random())
                if w.random.random() < 0.3:  # while the index is made anew
                    (w.store / "index.seal").unlink(missing_ok=True)
                    w.spawn("rebuild", "gq-inspect", "stats")
                    time.sleep(0.05 * w.random.random())
                w.freeze()
                disk.cut_power()
                for name in list(w.running):
                    if name != "gearmand":
                        w.kill(name)
                disk.unmount()
                disk.mount()
                if (w.store / "gq.json").exists() and w.random.random() < 0.5:
                    code, text = w.output("gq-inspect", "check", codes=None)
                    w.expect(code == 0, f"after cut {round} gq-inspect check answers {code}: {text[:500]}")
            w.kills = {}
            w.work_off()
            w.kill("gearmand")
            said.append(f"{kind}: {w.oracle()}")
            if w.problems:
                return w, ""
        finally:
            w.end_all()
            disk.unmount()
    return w, "; ".join(said)


def full(directory, seed, short=True, **_):
    said = []
    for kind, size in ("tmpfs", 10), ("ext4", 16):
        d = os.path.join(directory, kind)
        os.mkdir(d)
        disk = Disk(d, kind, size)
        w = World(os.path.join(d, "w"), seed, store=disk.mount_point / "store", seconds="0.01")
        filler = disk.mount_point / "filler"
        try:
            w.gearmand()
            worker = w.worker("worker", "-j", 4)
            wait_until(w.served)
            for round in range(2 if short else 10):
                # Fills the disk with jobs, and then to the last byte.
                blocked = w.worker("slow", "--local", "-j", 20, env={"COMMAND_SECONDS": "1.5"})
                refused = 0
                for n in range(200):
                    options = ["--local"] if n % 2 else ["--timeout", "1s"]
                    b = w.enqueue("enqueue", [w.random.choice((10, 5000, 60000, 200000)) for _ in range(20)], *options)
                    code = w.wait(b.process, codes=(0, 74, 75))
                    if code:
                        refused += 1
                        w.expect("space" in open(b.process.err).read() or code == 75, f"refused without a reason: {open(b.process.err).read()[:200]}")
                    if refused == 3:
                        break
                w.expect(refused == 3, "the disk was never full")
                try:
                    with open(filler, "wb", buffering=0) as f:
                        while f.write(b"x" * 4096):
                            pass
                except OSError:
                    pass
                for options in ["--local"], ["--timeout", "1s"]:
                    b = w.enqueue("refused", [60000], *options)
                    w.expect(w.wait(b.process, codes=(74, 75)) and not b.printed(), "a full disk, and a job was taken")
                w.expect(w.alive("worker") and w.alive("slow"), "a worker ended because the disk was full")
                filler.unlink(missing_ok=True)
                slow = w.running["slow"]
                slow.terminate()
                w.wait(slow)

                def emptied():
                    return not w.held()
                w.expect(wait_until(emptied, 60), "the worker did not go on when there was room again")
                b = w.enqueue("again", [10, 60000], "--timeout", "10s")
                w.wait(b.process)
            w.running["worker"].terminate()
            w.wait(w.running["worker"])
            w.work_off()
            said.append(f"{kind}: {w.oracle()}")
            if w.problems:
                return w, ""
        finally:
            w.end_all()
            disk.unmount()
    return w, "; ".join(said)

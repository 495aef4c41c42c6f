"""The disk: power cuts at random moments under load (and during the recovery), and a full disk."""
import os, pathlib, subprocess, time

from .world import World, wait_until


def fill(path):
    """Writes a file until the disk has no byte left."""
    try:
        with open(path, "wb", buffering=0) as f:
            while f.write(b"x" * 4096):
                pass
    except OSError:
        pass


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

        def works():
            subprocess.run(["mount", *what, str(self.mount_point)], check=True)
            try:
                os.utime(self.mount_point)
                return True
            except OSError:  # a mount namespace that was created meanwhile still has the file system that was shut down
                self.unmount()
                return False
        if not wait_until(works, 60):
            raise RuntimeError(f"{self.mount_point} was shut down, and cannot be mounted again")

    def unmount(self):
        # A command that outlived its worker may still hold a file.
        unmounted = lambda: subprocess.run(["umount", str(self.mount_point)], stderr=subprocess.DEVNULL).returncode == 0
        if not wait_until(unmounted, 60):
            raise RuntimeError(f"{self.mount_point} is not unmounted: in use by {self.holders()}")

    def holders(self):
        """The processes that have a file of this file system open or mapped, or their working directory in it."""
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                links = [os.readlink(link) for link in (process / "cwd", *(process / "fd").iterdir())]
                if str(self.mount_point) in (process / "maps").read_text() or any(link.startswith(str(self.mount_point)) for link in links):
                    found.append(f"{process.name} ({(process / 'cmdline').read_text().replace(chr(0), ' ').strip()}, {(process / 'wchan').read_text()})")
            except OSError:
                pass  # the process has ended
        return found

    def cut_power(self):
        """From now on nothing more reaches the disk."""
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


def on_disks(directory, seed, disks, body, check=(0,)):
    """For each file system, (kind, megabytes): runs body(world, disk) on a World whose store is there, and asks the oracle."""
    said = []
    for kind, size in disks:
        d = os.path.join(directory, kind)
        os.mkdir(d)
        disk = Disk(d, kind, size)
        w = World(os.path.join(d, "w"), seed, store=disk.mount_point / "store", seconds="0.01")
        try:
            body(w, disk)
            w.kills = {}
            w.work_off()
            w.kill("gearmand")
            said.append(f"{kind}: {w.oracle(check=check)}")
            if w.problems:
                return w, ""
        finally:
            w.end_all()
            disk.unmount()
    return w, "; ".join(said)


def cut(w, disk):
    w.freeze()
    disk.cut_power()
    for name in list(w.running):
        if name != "gearmand":
            w.kill(name)
    disk.unmount()
    disk.mount()


def power_cut(directory, seed, short=True, rounds=None, **_):
    def body(w, disk):
        for round in range(rounds or (6 if short else 40)):
            load(w)
            time.sleep(w.random.choice((0.02, 0.2, 1.0)) * w.random.random())
            if w.random.random() < 0.3:  # while the index is rebuilt
                (w.store / "index.seal").unlink(missing_ok=True)
                w.spawn("rebuild", "gq-inspect", "stats")
                time.sleep(0.05 * w.random.random())
            cut(w, disk)
            if (w.store / "gq.json").exists() and w.random.random() < 0.5:
                code, text = w.output("gq-inspect", "check", codes=None)
                w.expect(code == 0, f"after cut {round} gq-inspect check answers {code}: {text[:500]}")

    return on_disks(directory, seed, [("ext4", 320), ("xfs", 320)], body)


def failing_syncs(directory, seed, short=True, rounds=None, **_):
    """Syncs fail from some call on, and then the power goes: a job that is acknowledged after that would be lost."""
    def body(w, disk):
        w.gearmand()
        for _ in range(rounds or (6 if short else 40)):
            w.wait(w.enqueue("good", [10], "--local").process)
            wraps = [["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e",
                      f"inject={w.random.choice(('fdatasync', 'fdatasync,fsync'))}:error=EIO:when={w.random.randint(1, 2)}+"]
                     for _ in range(2)]
            w.spawn("worker", "gq-worker", "-f", "f", "--queue-only", wrap=wraps[0])
            if w.random.random() < 0.5:
                wait_until(w.served, 5)
                batches = [w.enqueue("enqueue", [w.random.choice((0, 1000, 70000))], "--timeout", "300ms") for _ in range(5)]
            else:
                batches = [w.enqueue("local", [10, 1000, 70000, 10], "--local", wrap=wraps[1])]
            for b in batches:
                w.wait(b.process, codes=(0, 69, 74, 75))
            cut(w, disk)

    # Bytes whose sync failed may be gone. gq-inspect check reports that.
    return on_disks(directory, seed, [("ext4", 320), ("xfs", 320)], body, check=(0, 1))


def full(directory, seed, short=True, **_):
    def body(w, disk):
        filler = disk.mount_point / "filler"
        w.gearmand()
        worker = w.worker("worker", "-j", 4)
        wait_until(w.served)
        for round in range(2 if short else 5):  # the journal stays, so that each round has less room
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
            fill(filler)
            for options in ["--local"], ["--timeout", "1s"]:
                b = w.enqueue("refused", [60000], *options)
                w.expect(w.wait(b.process, codes=(74, 75)) and not b.printed(), "a job was accepted although the disk was full")
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

    return on_disks(directory, seed, [("tmpfs", 10 if short else 40), ("ext4", 16 if short else 48)], body)

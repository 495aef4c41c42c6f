"""The same faults against gq and other job servers: how many of the jobs that each has acknowledged are lost.

Clients submit jobs, one at a time on each of eight connections, until the fault happens. Then the server is started again on
the remaining files, and asked for its jobs. No job is run. Only jobs that were acknowledged before the fault count.
"""
import argparse, json, os, pathlib, random, signal, socket, struct, subprocess, sys, tempfile, threading, time

from .disk import Disk
from .world import free_port, wait_until

CONNECTIONS = 8


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.settimeout(5)
        self.file = self.socket.makefile("rb")

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("closed")
        return line[:-2]

    def packet(self, command, *args):
        """Sends one packet of the Gearman protocol."""
        body = b"\0".join(args)
        self.socket.sendall(b"\0REQ" + struct.pack(">II", command, len(body)) + body)

    def answer(self):
        header = self.file.read(12)
        if len(header) < 12:
            raise OSError("closed")
        command, size = struct.unpack(">II", header[4:])
        return command, self.file.read(size)


class Redis:
    name = "Redis, appendfsync always"

    def argv(self, directory, port):
        return ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", directory, "--appendonly", "yes", "--appendfsync",
                "always", "--save", ""]

    def submit(self, c, job):
        c.socket.sendall(b"*3\r\n$5\r\nLPUSH\r\n$1\r\nq\r\n$%d\r\n%s\r\n" % (len(job), job))
        return c.line().startswith(b":") and job

    def jobs(self, c):
        c.socket.sendall(b"*4\r\n$6\r\nLRANGE\r\n$1\r\nq\r\n$1\r\n0\r\n$2\r\n-1\r\n")
        first = c.line()
        if not first.startswith(b"*"):
            raise OSError(first)
        jobs = []
        for _ in range(int(first[1:])):
            size = int(c.line()[1:])
            jobs.append(c.file.read(size + 2)[:-2])
        return jobs


class Beanstalkd:
    name = "beanstalkd -f 0"

    def argv(self, directory, port):
        return ["beanstalkd", "-l", "127.0.0.1", "-p", port, "-b", directory, "-f", "0", "-s", 1 << 20]

    def submit(self, c, job):
        c.socket.sendall(b"put 0 0 600 %d\r\n%s\r\n" % (len(job), job))
        return c.line().startswith(b"INSERTED") and job

    def jobs(self, c):
        jobs = []
        while True:
            c.socket.sendall(b"reserve-with-timeout 0\r\n")
            first = c.line().split(b" ")
            if first[0] != b"RESERVED":
                return jobs
            jobs.append(c.file.read(int(first[2]) + 2)[:-2])


class GearmandSqlite:
    name = "gearmand with its sqlite queue"

    def argv(self, directory, port):
        return ["gearmand", "-L", "127.0.0.1", "-p", port, "-l", directory / "log", "-q", "libsqlite3", "--libsqlite3-db",
                directory / "queue"]

    def submit(self, c, job):
        c.packet(18, b"f", job[:20], job)  # SUBMIT_JOB_BG; the unique is the job's own number
        return c.answer()[0] == 8 and job

    def jobs(self, c):
        c.packet(1, b"f")  # CAN_DO
        jobs = []
        while True:
            c.packet(9)  # GRAB_JOB
            command, body = c.answer()
            if command == 10:
                return jobs
            if command == 11:
                jobs.append(body.split(b"\0", 2)[2])


class Gq:
    """A worker that only queues, behind a gearmand without faults: the test is about the worker's disk."""
    name = "gq"

    def argv(self, directory, port):
        self.gearmand = subprocess.Popen(["gearmand", "-L", "127.0.0.1", "-p", str(port), "-l", "stderr"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.store = directory / "store"
        return ["gq-worker", "-f", "f", "--queue-only", "--store", self.store, "--servers", f"127.0.0.1:{port}"]

    def submit(self, c, job):
        c.packet(7, b"f", b"", job)  # SUBMIT_JOB: a raw job in the foreground
        while True:
            command, body = c.answer()
            if command == 13:
                word, _, id = body.split(b"\0", 1)[1].strip().partition(b" ")
                return word == b"queued" and id
            if command != 8:
                return False

    def jobs(self, c):
        subprocess.run(["gq-inspect", "--store", str(self.store), "check"], check=True)
        listed = subprocess.run(["gq-inspect", "--store", str(self.store), "list", "--json"], capture_output=True, check=True)
        return [json.loads(line)["id"].encode() for line in listed.stdout.splitlines()]


PEERS = {"gq": Gq, "redis": Redis, "beanstalkd": Beanstalkd, "gearmand": GearmandSqlite}


class Trial:
    """One server on one directory, and the jobs that it has acknowledged."""

    def __init__(self, peer, directory, rng):
        self.peer, self.directory, self.rng = peer, pathlib.Path(directory), rng
        self.port = free_port()
        self.acknowledged, self.refused, self.frozen, self.counter = set(), 0, False, 0
        self.mutex = threading.Lock()
        self.server = None

    def start(self, wrap=()):
        argv = self.peer.argv(self.directory, self.port)
        self.server = subprocess.Popen([*wrap, *map(str, argv)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)

        def answers():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0 or self.server.poll() is not None
        if not wait_until(answers, 10) or self.server.poll() is not None:
            raise RuntimeError(f"{self.peer.name} does not start")

    def kill(self):
        if self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def client(self, size):
        while not self.frozen:
            try:
                c = Connection(self.port)
                while not self.frozen:
                    with self.mutex:
                        self.counter += 1
                        job = b"%020d" % self.counter
                    job += b"x" * (size - len(job))
                    key = self.peer.submit(c, job)
                    with self.mutex:
                        if not self.frozen and key:
                            self.acknowledged.add(key)
                        self.refused += not key
                    if not key:
                        time.sleep(0.01)
            except OSError:
                time.sleep(0.02)

    def load(self, size=200):
        threads = [threading.Thread(target=self.client, args=(size,), daemon=True) for _ in range(CONNECTIONS)]
        for t in threads:
            t.start()
        return threads

    def freeze(self):
        with self.mutex:
            self.frozen = True

    def lost(self):
        """Starts the server again on the remaining files, and returns how many acknowledged jobs it does not have."""
        try:
            if not isinstance(self.peer, Gq):
                self.start()
            left = None
            end = time.monotonic() + 20
            while left is None:
                try:
                    left = set(self.peer.jobs(Connection(self.port)))
                except OSError:  # the server may still be loading
                    if time.monotonic() > end:
                        raise RuntimeError
                    time.sleep(0.1)
        except RuntimeError:
            return len(self.acknowledged)  # the server does not start on the remaining files
        finally:
            self.kill()
        return len(self.acknowledged - left)

    def end(self):
        self.freeze()
        if self.server:
            self.kill()
        if isinstance(self.peer, Gq) and hasattr(self.peer, "gearmand"):
            self.peer.gearmand.kill()
            self.peer.gearmand.wait()


# Each fault happens on a directory of its own; `disk` is its file system, `t` the trial.
def killed(t, disk):
    t.start()
    t.load()
    time.sleep(0.1 + 0.9 * t.rng.random())
    t.freeze()
    t.kill()


def power_cut(t, disk):
    t.start()
    t.load()
    cut(t, disk)


def cut(t, disk):
    time.sleep(0.1 + 0.9 * t.rng.random())
    t.freeze()
    disk.cut_power()
    t.kill()
    disk.unmount()
    disk.mount()


def failing_sync(t, disk):
    """From some call on fdatasync and fsync fail, and after a moment the power goes. A job that was acknowledged in between is lost."""
    t.start(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync,sync_file_range", "-e",
             f"inject=fdatasync,fsync:error=EIO:when={t.rng.randint(5, 200)}+"])
    t.load()
    cut(t, disk)


def full(t, disk):
    """The disk fills up with jobs, stays full for a second, and then has room again."""
    ballast = t.directory.parent / "ballast"
    ballast.write_bytes(bytes(8 << 20))
    t.start()
    t.load(20000)
    wait_until(lambda: t.refused > 20 or t.server.poll() is not None, 20)
    time.sleep(1)
    t.freeze()
    t.kill()
    ballast.unlink()


FAULTS = {"kill -9": killed, "power cut": power_cut, "failing fsync, then power cut": failing_sync, "full disk": full}


def table(rounds, seed, names):
    """Runs all faults, and prints the table for the README."""
    rng = random.Random(seed)
    print("| acknowledged jobs lost | " + " | ".join(FAULTS) + " |")
    print("|---|" + "---|" * len(FAULTS))
    worst = 0
    for name in names:
        cells = []
        for fault in FAULTS.values():
            lost = total = hit = 0
            for _ in range(rounds):
                with tempfile.TemporaryDirectory(prefix="gq-peers.") as d:
                    disk = Disk(d, "ext4", 320 if fault is not full else 40)
                    directory = disk.mount_point / "data"
                    directory.mkdir()
                    t = Trial(PEERS[name](), directory, rng)
                    try:
                        fault(t, disk)
                        n = t.lost()
                        lost, total, hit = lost + n, total + len(t.acknowledged), hit + (n > 0)
                    finally:
                        t.end()
                        disk.unmount()
            cells.append(f"{lost} of {total}" + (f" ({hit} of {rounds} rounds)" if hit else ""))
            if name == "gq":
                worst = max(worst, lost)
        print(f"| {PEERS[name].name} | " + " | ".join(cells) + " |", flush=True)
    return worst == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", default=",".join(PEERS))
    args = parser.parse_args()
    return 0 if table(args.rounds, args.seed, args.only.split(",")) else 1


if __name__ == "__main__":
    sys.exit(main())

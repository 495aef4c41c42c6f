"""One store and everything visible from outside: the programs that use it, the submitted jobs, the ledger that each run of the
command writes, and the oracle that judges them.

The oracle knows only what was visible from outside. These must hold. Every acknowledged job ran to its end (or is still held,
unless all jobs had to be run). Each job that ran was submitted, with that workload. No submission became two jobs. No job ran
twice at the same time. Jobs with one serial key began in order. No program crashed, hung or reported a bug in itself.
gq-inspect check exits 0.
"""
import json, os, pathlib, random, re, select, signal, socket, subprocess, time, zlib

FUNCTION = "f"
SANITIZER_EXIT = 99  # the exit code of a sanitized program that has found an error


def sanitized():
    """Whether the programs were built with a sanitizer."""
    return b"SAN_OPTIONS" in pathlib.Path(os.environ["GQ_BUILD"], "gq-worker").read_bytes()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def at_time(offset):
    """The environment for a program whose wall clock is so many seconds off."""
    return {"LD_PRELOAD": os.path.abspath(os.path.join(os.environ["GQ_BUILD"], "gq-preload.so")), "GQ_TEST_TIME": f"{offset:+}"}


def blocks_sigterm(p):
    """Whether a program has come so far that SIGTERM ends it in order, or has ended."""
    try:
        status = pathlib.Path(f"/proc/{p.pid}/status").read_text()
    except OSError:
        return True
    blocked = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")]
    return p.poll() is not None or not blocked or int(blocked[0], 16) >> signal.SIGTERM - 1 & 1


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def children(p):
    """The pids of the children of a process."""
    return [int(pid) for pid in subprocess.run(["pgrep", "-P", str(p.pid)], capture_output=True, text=True).stdout.split()]


class Batch:
    """The jobs of one gq-enqueue: their tags, and the IDs that it printed."""

    def __init__(self, out, tags):
        self.out, self.tags, self.limit, self.process, self.serial = out, tags, None, None, False

    def printed(self):
        data = self.out.read_bytes() if self.out.exists() else b""
        if self.limit is not None:
            data = data[:self.limit]
        return [line.decode() for line in data.split(b"\n")[:-1]]


class World:
    def __init__(self, directory, seed, store=None, seconds=""):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.random = random.Random(seed)
        self.store = pathlib.Path(store or self.dir / "store")
        self.ledger = self.dir / "ledger"
        (self.dir / "ledger.locks").mkdir()
        self.ledger.touch()
        # The command has a name of its own, by which its processes can be found.
        self.command = self.dir / "command"
        self.command.symlink_to(pathlib.Path(os.environ["GQ_BUILD"], "gq-ledger").absolute())
        self.dropped = set()  # IDs that may be gone because they were dropped
        self.port = free_port()
        # Tokyo Cabinet may get SIGBUS if a disk fails, and SIGSEGV (see calls.py).
        sanitizer = f"exitcode={SANITIZER_EXIT}:handle_segv=0:handle_sigbus=0"
        self.env = dict(os.environ, LEDGER=str(self.ledger), GQ_STORE=str(self.store), COMMAND_SECONDS=str(seconds),
                        GQ_SERVERS=f"127.0.0.1:{self.port}",
                        ASAN_OPTIONS=f"{sanitizer}:detect_leaks=0", TSAN_OPTIONS=sanitizer,
                        UBSAN_OPTIONS=f"halt_on_error=1:print_stacktrace=1:exitcode={SANITIZER_EXIT}",
                        PATH=os.environ["GQ_BUILD"] + ":" + os.environ["PATH"] + ":/usr/sbin:/sbin")
        for name in "NOTIFY_SOCKET", "GQ_CONFIG":
            self.env.pop(name, None)
        self.running, self.batches, self.problems = {}, [], []
        self.kills, self.serial = {}, 0

    # ------------------------------------------------------------------------------------------------- programs

    def wrong(self, text):
        self.problems.append(text)

    def expect(self, condition, text):
        if not condition:
            self.wrong(text)
        return condition

    def spawn(self, name, *argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, wrap=(), env=None):
        self.serial += 1
        err = open(self.dir / f"err.{self.serial}.{name}", "wb")
        argv = [*wrap, *map(str, argv)]
        p = subprocess.Popen(argv, env=dict(self.env, **(env or {})), stdin=stdin, stdout=stdout, stderr=err)
        p.text = " ".join(argv)
        p.traced = argv[0] == "strace"
        p.err = err.name
        err.close()
        self.running[name] = p
        return p

    def alive(self, name):
        return name in self.running and self.running[name].poll() is None

    def wait(self, p, seconds=60, codes=(0,)):
        """Waits for a program. It is a problem if the program hangs or ends with another code, such as that of a signal."""
        if p.poll() is None:
            fd = os.pidfd_open(p.pid)  # Popen.wait() polls too seldom
            select.select([fd], [], [], seconds)
            os.close(fd)
        code = p.poll()
        if code is None:
            self.wrong(f"hangs: {p.text}")
            # The child of strace(1) and the like would outlive it.
            for child in children(p):
                os.kill(child, signal.SIGKILL)
            p.kill()
            return p.wait()
        if codes is not None and code not in codes:
            self.wrong(f"ended with {code}: {p.text}: {pathlib.Path(p.err).read_text(errors='replace')[-300:]}")
        return code

    def run(self, *argv, codes=(0,), seconds=60, **more):
        return self.wait(self.spawn("run", *argv, **more), seconds, codes)

    def output(self, *argv, codes=(0,), seconds=60):
        out = self.dir / "output"
        with open(out, "wb") as f:
            code = self.run(*argv, codes=codes, seconds=seconds, stdout=f)
        return code, out.read_text(errors="replace")

    def kill(self, name, signal_=signal.SIGKILL):
        if self.alive(name):
            p = self.running[name]
            for pid in children(p) if p.traced else [p.pid]:  # strace(1) ends with its child, but the child does not end with strace(1)
                try:
                    os.kill(pid, signal_)
                except ProcessLookupError:
                    pass
            p.wait()
            self.kills[name] = self.kills.get(name, 0) + 1

    def end_all(self):
        for p in self.running.values():
            if p.poll() is None:
                p.kill()
                p.wait()

    def gearmand(self, name="gearmand", port=None, *more):
        port = port or self.port
        p = self.spawn(name, "gearmand", "-L", "127.0.0.1", "-p", port, "-l", self.dir / "gearmand.log", *more)

        def answers():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0 or p.poll() is not None
        wait_until(answers)
        return p

    def served(self, port=None, function=FUNCTION + ".gq"):
        try:
            with socket.create_connection(("127.0.0.1", port or self.port), 2) as s:
                s.settimeout(2)
                s.sendall(b"status\n")
                data = b""
                while not data.endswith(b".\n"):
                    more = s.recv(65536)
                    if not more:
                        return False
                    data += more
        except OSError:
            return False
        return any(l.split(b"\t")[0] == function.encode() and l.split(b"\t")[3] != b"0"
                   for l in data.splitlines()[:-1])

    # The options of workers: no job is given up, and retries come soon.
    work = ["-f", FUNCTION, "--backoff", "10ms:500ms", "--max-attempts", "1000", "--max-crashes", "1000"]

    def worker(self, name="worker", *options, **more):
        return self.spawn(name, "gq-worker", *self.work, *options, "--", self.command, **more)

    def flush(self, name="flush", *options, **more):
        return self.spawn(name, "gq-flush", *self.work, *options, "--", self.command, **more)

    def settings(self, **limits):
        """Changes settings in gq.json."""
        path = self.store / "gq.json"
        settings = json.loads(path.read_text())
        settings.update(limits)
        path.write_text(json.dumps(settings))

    def use(self, store):
        """From now on the programs use another store, and the oracle judges that store."""
        self.store = pathlib.Path(store)
        self.env["GQ_STORE"] = str(store)

    # ------------------------------------------------------------------------------------------------- jobs

    def items(self, sizes):
        """Workloads of about these sizes, in the form that gq-ledger checks, and their tags."""
        items, tags = [], []
        for size in sizes:
            self.serial += 1
            tag = f"job-{self.serial}"
            body = self.random.randbytes(size).replace(b"\0", b"\1")
            items.append(f"{tag} {zlib.crc32(body)}\n".encode() + body)
            tags.append(tag)
        return items, tags

    def enqueue(self, name, sizes, *options, wrap=(), env=None):
        """Starts a gq-enqueue for jobs of these sizes."""
        items, tags = self.items(sizes)
        source = self.dir / f"in.{self.serial}"
        many = ["-0"] if len(items) > 1 else []  # --key takes one job only
        source.write_bytes(b"\0".join(items))
        batch = Batch(self.dir / f"out.{self.serial}", tags)
        batch.serial = "--serial" in options
        with open(batch.out, "wb") as out:
            batch.process = self.spawn(name, "gq-enqueue", *options, FUNCTION, *many, source, stdout=out, wrap=wrap, env=env)
        self.batches.append(batch)
        return batch

    def freeze(self):
        """From now on no further job of the running submissions counts as acknowledged."""
        for b in self.batches:
            if b.limit is None:
                b.limit = b.out.stat().st_size

    def events(self):
        seen = []
        for line in self.ledger.read_text(errors="replace").splitlines():
            event, id, *tag = line.split(" ")
            seen.append((event, id, tag[0] if tag else ""))
        return seen

    # ------------------------------------------------------------------------------------------------- the oracle

    def work_off(self, seconds=120):
        """Runs the remaining jobs until none is left, as an operator would."""
        self.run("gq-worker", "--local", "--drain", "-j", 4, *self.work, "--", self.command, seconds=seconds)

    def held(self):
        code, text = self.output("gq-inspect", "list", "--json")
        return {j["id"]: j["state"] for j in map(json.loads, text.splitlines())} if code == 0 else {}

    def oracle(self, drained=True, check=(0,), lost_ok=frozenset()):
        started, ended = {}, {}
        for event, id, tag in self.events():
            if event == "overlap":
                self.wrong(f"{id} ran twice at the same time")
            (started if event == "start" else ended).setdefault(id, tag)
            if event != "overlap":
                self.expect(started.get(id) == tag, f"{id} ran with {started.get(id)} and with {tag}")
        held = self.held()
        submitted = {t: n for n, b in enumerate(self.batches) for t in b.tags}
        jobs = {}
        for id, tag in started.items():
            if self.expect(tag in submitted, f"{id} ran with {tag}, which was never submitted"):
                jobs.setdefault(tag, []).append(id)
        for tag, ids in jobs.items():
            self.expect(len(ids) == 1, f"{tag} became several jobs: {ids}")
        order = {tag: n for n, tag in enumerate(started.values())}
        for b in self.batches:
            if b.serial:
                starts = [order[t] for t in b.tags if t in order]
                self.expect(starts == sorted(starts), f"jobs with one serial key started out of order: {b.tags[0]} and on")
        acknowledged = 0
        for n, b in enumerate(self.batches):
            for id in b.printed():
                acknowledged += 1
                if id in ended:
                    self.expect(submitted.get(ended[id]) == n, f"{id} ran with a workload of another submission")
                elif not (held.get(id) if not drained else None) and id not in lost_ok | self.dropped:
                    self.wrong(f"{id} was acknowledged and is lost (held: {held.get(id)})")
        for path in self.dir.glob("err.*"):
            text = path.read_text(errors="replace")
            found = re.search(r".*(Sanitizer|runtime error:|: a bug:).*", text)
            if found:
                self.wrong(f"{path.name}: {found.group(0)}")
        code, text = self.output("gq-inspect", "check", codes=None)
        self.expect(code in check, f"gq-inspect check answers {code}: {text[:500]}")
        return f"{acknowledged} of {len(submitted)} acknowledged, {len(ended)} ran" + (f", killed: {self.kills}" if self.kills else "")

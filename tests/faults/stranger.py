"""A stranger at the Gearman servers of a group. It serves the same functions as the programs and the nodes, and records the workloads
that it gets. It sends these again, also altered, to other functions, and under other nodes' names and identities. It sends nonsense, too.

Besides the rules of a group (see group.py), these must hold. No program ends, uses much memory, or logs much. Jobs that are queued
meanwhile are acknowledged, at the latest when the stranger has gone. All acknowledged jobs run.

If the group has keys, the stranger says anything. Without keys it could end jobs and claim to have copies, as gq(7) says. So there
it tells no such lies, and a node that it impersonates is believed again when the stranger has gone.
"""
import collections, concurrent.futures, ctypes, os, pathlib, random, re, socket, struct, threading, time

from .group import NODES, Group
from .world import Batch, FUNCTION, World, sanitized, wait_until

CAN_DO, PRE_SLEEP, NOOP, SUBMIT, GRAB, NO_JOB, ASSIGN, COMPLETE, FAIL, SUBMIT_BACKGROUND, SUBMIT_HIGH = 1, 4, 6, 7, 9, 10, 11, 13, 14, 18, 21
BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MOST_MEMORY = 400 << 20


xxhash = ctypes.CDLL("libxxhash.so.0")
xxhash.XXH3_64bits.restype = ctypes.c_uint64
xxhash.XXH3_64bits.argtypes = ctypes.c_char_p, ctypes.c_size_t


def sum64(data):
    return xxhash.XXH3_64bits(data, len(data))


def cbor(value):
    def item(kind, n):
        size = next(s for s in (0, 1, 2, 4, 8) if n < (24 if s == 0 else 1 << 8 * s))
        return bytes([kind | (n if size == 0 else {1: 24, 2: 25, 4: 26, 8: 27}[size])]) + (n.to_bytes(size, "big") if size else b"")
    if isinstance(value, bool):
        return bytes([0xe0 | (21 if value else 20)])
    if isinstance(value, int):
        return item(0, value)
    if isinstance(value, str):
        return item(0x60, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return item(0x80, len(value)) + b"".join(map(cbor, value))
    return item(0xa0, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())


def record(meta, data=b""):
    """A record (lib/journal/record.hpp) with correct checksums, whatever it says."""
    meta = cbor(meta)
    head = b"GQR1" + struct.pack("<IQ", len(meta), len(data))
    rest = struct.pack("<Q", sum64(data)) + meta
    return head + struct.pack("<Q", sum64(head + bytes(8) + rest)) + rest + data


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, command, *args):
        body = b"\0".join(args)
        self.socket.sendall(b"\0REQ" + struct.pack(">II", command, len(body)) + body)

    def receive(self, seconds):
        """The next packet, as its command and its body. None: no packet came in time."""
        self.socket.settimeout(seconds)
        try:
            while True:
                size = 12 + struct.unpack(">I", self.buffer[8:12])[0] if len(self.buffer) >= 12 else 12
                if len(self.buffer) >= max(size, 12):
                    packet, self.buffer = self.buffer[:size], self.buffer[size:]
                    return struct.unpack(">I", packet[4:8])[0], packet[12:]
                data = self.socket.recv(1 << 16)
                if not data:
                    raise OSError("closed")
                self.buffer += data
        except socket.timeout:
            return None


class Stranger:
    def __init__(self, group, seed):
        self.group, self.signed = group, bool(group.auth)
        self.random = random.Random(seed)
        self.ports = list(group.servers.values())
        self.stop = threading.Event()
        self.functions = [FUNCTION + ".gq", *NODES, *(n + ".ask" for n in NODES)]
        self.kept = []      # (function, workload) from other clients
        self.answers = []   # answers of nodes
        self.sent = self.taken = 0
        self.own = 0
        self.tags = []

    def ulid(self):
        return "0" + "".join(self.random.choices(BASE32, k=25))

    def altered(self, data):
        rng, data = self.random, bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 20))):
            what = rng.randrange(5)
            at = rng.randrange(len(data) + 1)
            if what == 0 and data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            elif what == 1:
                del data[at:]
            elif what == 2:
                data[at:at] = rng.randbytes(rng.choice((1, 8, 300)))
            elif what == 3:
                data += data[:at]
            elif self.kept:
                data[at:] = rng.choice(self.kept)[1][-rng.randrange(1, 500):]
        return bytes(data[:1 << 20])

    def as_another(self, transfer):
        """The transfer with some words of its first line replaced."""
        line, _, body = transfer.partition(b"\n")
        words = line.split(b" ")
        if len(words) != 10:
            return self.altered(transfer)
        rng = self.random
        for _ in range(rng.choice((1, 2, 3))):
            n = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9))
            words[n] = rng.choice({
                1: [b"take", b"part", b"ask", b"tell"], 2: [b"rep_1:all", b"rep_1:once", b"rep_9:all"], 3: [x.encode() for x in (*NODES, "rep_9")],
                4: [self.ulid().encode()], 5: [x.encode() for x in NODES], 6: [self.ulid().encode()], 7: [b"0", b"1", b"18446744073709551615", b"x"],
                8: [b"-", self.ulid().encode()], 9: [b"-", b"0" * 64, rng.randbytes(32).hex().encode()]}[n])
        return b" ".join(words) + b"\n" + body

    def raw(self):
        """A new workload. Where raw jobs are accepted, it is a valid job."""
        self.own += 1
        self.tags.append(f"stranger-{self.own}")
        return self.tags[-1].encode() + b" 0\n"

    def job(self, data):
        """An add record with allowed fields and many forbidden ones."""
        rng = self.random
        meta = {"t": "add", "id": self.ulid(), "f": FUNCTION, "at": int(time.time() * 1000)}
        more = {"why": "x" * 60000, "o": "x" * 60000, "peers": "x" * 60000, "state": "finished", "ids": [self.ulid() for _ in range(2000)], "node": rng.choice(NODES),
                "store": self.ulid(), "copies": 4294967295, "once": True, "enough": True, "keep": True, "given": True, "term": 7, "v": 7, "prio": 4294967295,
                "max": 4294967295, "window": 1 << 62, "key": f"{self.own} ".ljust(255, "k"), "serial": "s" * 255, "at": 1 << 62, "src": self.ulid(), "len": 1 << 63, "from": "rep_1",
                "fstore": self.ulid(), "tries": 9, "failures": 4294967295, "crashes": 4294967295, "lsn": 1 << 63, "since": 1 << 63, "x" * 200: {"y": [1, "z"]}}
        for key in rng.sample(sorted(more), rng.choice((0, 1, 2, 5, len(more)))):
            meta[key] = more[key]
        if rng.random() < 0.3:  # as long as a record may be
            meta["o"] = ""
            meta["o"] = "x" * max(0, (1 << 16) - 2 - len(cbor(meta)))
        return record(meta, data)

    def forged(self):
        """A transfer in a node's name. If a node accepts it, it only adds jobs."""
        rng = self.random
        node, to = rng.sample(NODES, 2)
        identity = rng.choice([w[4].decode(errors="replace") for f, k in self.kept if len(w := k[:1000].split(b"\n")[0].split(b" ")) == 10 and w[3] == node.encode()] or [self.ulid()])
        data = b"forged 0\n" if self.signed else self.raw()
        meta = {"t": "add", "id": self.ulid(), "f": FUNCTION, "at": 1, "node": node, "store": self.ulid(), "once": self.group.policy == "once"}
        line = f"gq1 take rep_1:{self.group.policy} {node} {identity} {to} {self.ulid()} {rng.randrange(1, 9)} {self.ulid()} {rng.choice(('-', '0' * 64)) if self.signed else '-'}\n"
        return rng.choice((to, to + ".ask")), line.encode() + record(meta, data)

    def message(self):
        rng = self.random
        what = rng.random()
        if what < 0.05:
            return FUNCTION, self.raw()
        if what < 0.1 or not self.kept:
            return rng.choice(self.functions), rng.randbytes(rng.choice((0, 1, 100, 10000)))
        if what < 0.15:
            return FUNCTION + ".gq", b"".join(self.job(self.raw()) for _ in range(rng.choice((1, 1, 5))))
        if what < 0.2:
            return self.forged()
        if what < 0.22:
            return rng.choice(self.functions), b"gq1 take rep_1:all rep_1 " + bytes(1 << rng.randrange(10, 22))
        function, workload = rng.choice(self.kept)
        if what < 0.35:
            return function, workload
        if what < 0.45:
            return rng.choice(self.functions), workload
        if function in self.functions[1:] and what < 0.7:
            return rng.choice((function, rng.choice(self.functions))), self.as_another(workload)
        return function, self.altered(workload)

    def speak(self, port):
        """Acts as a client."""
        while not self.stop.is_set():
            try:
                with Connection(port) as c:
                    for _ in range(50):
                        if self.stop.wait(0.005):
                            return
                        function, workload = self.message()
                        command = self.random.choice((SUBMIT, SUBMIT, SUBMIT_HIGH, SUBMIT_BACKGROUND))
                        c.send(command, function.encode(), self.random.randbytes(8).hex().encode(), workload)
                        self.sent += 1
                        end = time.monotonic() + 0.3
                        while command != SUBMIT_BACKGROUND and time.monotonic() < end:
                            packet = c.receive(0.1)
                            if packet and packet[0] == COMPLETE:
                                self.answers.append(packet[1].partition(b"\0")[2])
                                del self.answers[:-200]
                            if packet and packet[0] in (COMPLETE, FAIL):
                                break
            except OSError:
                self.stop.wait(0.1)

    def answer(self, function, workload):
        """An answer in a node's place. None: no answer, and the server gives the job to another worker."""
        rng = self.random
        node = function.partition(".")[0]
        answers = [None, b"", rng.randbytes(20), b"gq1", b"bad nonsense\n"]
        if function in self.functions[1:]:
            answers += [f"gq1 {node} {self.ulid()} {self.ulid()} -\nagain\n".encode(), f"gq1 {node} {self.ulid()} {self.ulid()} {'0' * 64}\nhave\n".encode()]
            if self.signed:
                answers += self.answers[-5:]
                answers += [f"gq1 {node} {self.ulid()} {self.ulid()} -\n".encode() + line for line in (b"have\n", b"have\n" * 100, b"at 18446744073709551615\n")]
        return rng.choice(answers)

    def serve(self, port):
        """Acts as a worker now and then."""
        while not self.stop.wait(self.random.uniform(0.2, 1)):
            try:
                with Connection(port) as c:
                    for function in self.random.sample(self.functions, 3):
                        c.send(CAN_DO, function.encode())
                    end = time.monotonic() + self.random.uniform(0.1, 0.6)
                    c.send(GRAB)
                    while time.monotonic() < end and not self.stop.is_set():
                        packet = c.receive(0.1)
                        if not packet:
                            continue
                        if packet[0] == NO_JOB:
                            c.send(PRE_SLEEP)
                        elif packet[0] == NOOP:
                            c.send(GRAB)
                        elif packet[0] == ASSIGN:
                            handle, function, workload = packet[1].split(b"\0", 2)
                            function = function.decode()
                            self.taken += 1
                            self.kept.append((function, workload[:1 << 20]))
                            del self.kept[:-300]
                            answer = self.answer(function, workload)
                            if answer is None:
                                break
                            if self.random.random() < 0.5:
                                c.send(FAIL, handle)
                            else:
                                c.send(COMPLETE, handle, answer)
                            c.send(GRAB)
            except OSError:
                pass

    def work(self, seconds):
        pool = concurrent.futures.ThreadPoolExecutor(4)
        parts = [pool.submit(f, p) for p in self.ports for f in (self.speak, self.serve)]
        concurrent.futures.wait(parts, seconds, concurrent.futures.FIRST_COMPLETED)
        self.stop.set()
        for part in parts:
            part.result()


def waiting(port, functions):
    """How many jobs of these functions a server has."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(b"status\n")
        data = b""
        while not data.endswith(b".\n"):
            data += s.recv(1 << 16)
    return sum(int(l.split("\t")[1]) for l in data.decode(errors="replace").splitlines()[:-1] if l.split("\t")[0] in functions)


def peak_memory(p):
    for line in pathlib.Path(f"/proc/{p.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def one_group(directory, seed, policy, auth, seconds):
    g = Group(directory, seed, policy, auth=auth, hosts=False)
    problems = g.client.problems
    try:
        # A slow node must not count as gone: that the stranger can cause it is enough.
        g.times = ["--peer-timeout", "3s", "--takeover", "6s", "--alone-after", "60s"]
        g.start_all()
        if not auth:
            g.wiped.update(NODES)  # each node may appear to be a new one, which is not told of finished jobs
        stranger = Stranger(g, seed)
        pool = concurrent.futures.ThreadPoolExecutor(1)
        work = pool.submit(stranger.work, seconds)
        during = 0
        while not work.done():
            batch = g.enqueue(5)
            g.client.wait(batch.process, codes=(0, 65, 69, 75), seconds=60)
            during += len(batch.printed())
            time.sleep(0.2)
        work.result()
        # No program was restarted, and jobs are accepted.
        last = lambda: g.client.wait(g.enqueue(2).process, codes=(0, 65, 69, 75), seconds=60) == 0
        g.client.expect(wait_until(last, 60), "no job is taken after the stranger has gone")
        none_left = lambda: not any(waiting(p, stranger.functions) for p in stranger.ports)
        g.client.expect(wait_until(none_left, 30), "what the stranger has sent still goes round")
        own = Batch(g.client.dir / "stranger", stranger.tags)
        g.client.batches.append(own)
        used = 0
        for name, w in g.nodes.items():
            if not g.client.expect(w.alive("worker"), f"the worker of {name} has ended: {pathlib.Path(w.running['worker'].err).read_text()[-300:]}"):
                continue
            used = max(used, peak_memory(w.running["worker"]))
        g.client.expect(used < MOST_MEMORY or sanitized(), f"a node uses {used >> 20} MiB")
        acknowledged, doubled = g.judge()
        logged = 0
        for name, w in g.nodes.items():
            lines = pathlib.Path(w.running["worker"].err).read_text(errors="replace").splitlines()
            # One line a minute of each kind, and for some kinds one for each other node.
            kind, times = collections.Counter(re.sub(r"\S*\d\S*", "", l) for l in lines).most_common(1)[0] if lines else ("", 0)
            g.client.expect(len(lines) <= 100 and times <= len(NODES) * (2 + seconds // 60), f"{name} logs {len(lines)} lines, {times} times: {kind}")
            logged = max(logged, len(lines))
            problems.extend(f"{name}: {l}" for l in lines if "Sanitizer" in l or "runtime error:" in l or ": a bug:" in l)
        g.client.expect(during > 0, "no job was acknowledged beside the stranger")
        return problems, f"{stranger.sent} sent, {stranger.taken} taken away, {acknowledged} acknowledged, {during} of them meanwhile, {doubled} run more than once, at most {logged} lines logged and {used >> 20} MiB used"
    finally:
        g.close()


def stranger(directory, seed, short=True, **_):
    total = World(os.path.join(directory, "total"), seed)
    lines = []

    def one(name, auth, policy):
        try:
            problems, line = one_group(os.path.join(directory, name), seed, policy, auth, 10 if short else 60)
        except Exception as e:
            problems, line = [repr(e)], "failed"
        total.problems.extend(f"{name}: {p}" for p in problems)
        lines.append(f"{name}, {policy}: {line}")

    policies = ["all", "once"]
    random.Random(seed).shuffle(policies)
    threads = [threading.Thread(target=one, args=a) for a in (("signed", True, policies[0]), ("not signed", False, policies[1]))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return total, "; ".join(sorted(lines))

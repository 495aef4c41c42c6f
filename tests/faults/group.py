"""Faults in a replication group of three nodes with two Gearman servers. As root, each of these is a host of its own, which is a
network namespace.

Besides the rules of one store (see world.py), these must hold. Every acknowledged job has run to its end on a node, although
K - 1 stores may have been destroyed after the answer. If jobs run everywhere, it has run on each node that was not wiped. If
jobs run once, jobs that ran on more than one node are counted. On one node no job runs twice at the same time. When nothing is
owed any more, all nodes have the same unfinished jobs.
"""
import concurrent.futures, itertools, json, os, random, secrets, shutil, signal, subprocess, threading, time

from .disk import fill
from .world import World, at_time, free_port, sanitized, wait_until

NODES = ("rep_1", "rep_2", "rep_3")
TIMES = ["--peer-timeout", "800ms", "--takeover", "2s", "--alone-after", "6s"]


def ip(*argv, ns=None, check=True):
    return subprocess.run(["ip", *(["netns", "exec", ns, "ip"] if ns else []), *argv], check=check, capture_output=True)


class Network:
    """Hosts on one bridge, each in a network namespace of its own. Without root, all hosts are loopback."""
    numbers = itertools.count(1)

    def __init__(self, hosts, real=True):
        self.real = real and os.geteuid() == 0
        self.prefix = f"gq{os.getpid()}x{next(self.numbers)}"
        self.address = {h: f"10.99.0.{n + 1}" if self.real else "127.0.0.1" for n, h in enumerate(hosts)}
        self.hosts = hosts
        if not self.real:
            return
        self.hub = self.ns("hub")
        ip("netns", "add", self.hub)
        ip("link", "add", "br0", "type", "bridge", ns=self.hub)
        ip("link", "set", "br0", "up", ns=self.hub)
        for h in hosts:
            ip("netns", "add", self.ns(h))
            ip("link", "add", f"p-{h}", "type", "veth", "peer", "name", "eth", "netns", self.ns(h), ns=self.hub)
            ip("link", "set", f"p-{h}", "master", "br0", "up", ns=self.hub)
            for command in (["link", "set", "lo", "up"], ["addr", "add", self.address[h] + "/24", "dev", "eth"], ["link", "set", "eth", "up"]):
                ip(*command, ns=self.ns(h))

    def ns(self, host):
        return f"{self.prefix}-{host}"

    def on(self, host):
        """The words before a command that make it run on that host."""
        return ("ip", "netns", "exec", self.ns(host)) if self.real else ()

    def cut(self, host, down=True):
        if self.real:
            ip("link", "set", f"p-{host}", "down" if down else "up", ns=self.hub)

    def cut_one_way(self, host, to, down=True):
        """Packets of the host to that address go to a hardware address that no host has."""
        if self.real and down:
            ip("neigh", "replace", self.address[to], "lladdr", "02:00:00:00:00:99", "dev", "eth", "nud", "permanent", ns=self.ns(host))
        elif self.real:
            ip("neigh", "del", self.address[to], "dev", "eth", ns=self.ns(host), check=False)

    def close(self):
        if self.real:
            for h in (*self.hosts, "hub"):
                ip("netns", "del", self.ns(h), check=False)


class Group:
    def __init__(self, directory, seed, policy, auth=None, hosts=True):
        """`auth`: with keys or without; None: at random. Without `hosts` everything is on loopback."""
        self.net = Network([*NODES, "client", "g1", "g2"], hosts)
        self.policy, self.times = policy, TIMES
        self.servers = {g: free_port() for g in ("g1", "g2")}
        list_ = ",".join(f"{self.net.address[g]}:{port}" for g, port in self.servers.items())
        self.client = World(os.path.join(directory, "client"), seed, seconds="0.01")
        self.random = self.client.random
        self.nodes = {n: World(os.path.join(directory, n), seed, seconds="0.01") for n in NODES}
        for w in self.worlds():
            w.env["GQ_SERVERS"] = list_
        self.wiped, self.clocks, self.mounted, self.extra = set(), {}, [], []
        self.delayed = []
        self.auth = []
        if self.random.random() < 0.5 if auth is None else auth:
            key = self.client.dir / "key"
            key.write_text(secrets.token_hex(32) + "\n")
            key.chmod(0o600)
            self.auth = ["--auth", key]

    def worlds(self):
        return [self.client, *self.nodes.values()]

    def init(self, name, *more):
        w = self.nodes[name]
        w.run("gq-replicate", "init", "--as", name, "--group", ",".join(NODES), "--run", self.policy, *more)

    def start_server(self, g):
        address = self.net.address[g]
        self.client.spawn(g, "gearmand", "-L", address, "-p", self.servers[g], "-l", self.client.dir / f"{g}.log", wrap=self.net.on(g))

    def start(self, name):
        w = self.nodes[name]
        env = at_time(self.clocks[name]) if name in self.clocks else None
        w.spawn("worker", "gq-worker", *w.work, *self.times, *self.auth, "-j", 2, "--", w.command, wrap=self.net.on(name), env=env)

    def start_all(self):
        for n in NODES:
            self.init(n)
        for g in self.servers:
            self.start_server(g)
        time.sleep(0.3)
        for n in NODES:
            self.start(n)
        self.client.expect(wait_until(self.all_met), f"the nodes do not find each other ({self.policy})")

    def stats(self, name):
        code, text = self.nodes[name].output("gq-inspect", "stats", "--json", codes=None)
        return [json.loads(l) for l in text.splitlines()] if code == 0 else []

    def all_met(self):
        return all(sum("answered_at" in l for l in self.stats(n)) == 2 for n in NODES)

    def enqueue(self, count=10, *options):
        sizes = [self.random.choice((0, 100, 5000)) for _ in range(count)] + ([70000] if self.random.random() < 0.3 else [])
        return self.client.enqueue("enqueue", sizes, "--timeout", "6s", *options, wrap=self.net.on("client"))

    def acknowledged(self):
        return [id for b in self.client.batches for id in b.printed()]

    def paid(self):
        """No node owes anything, and only the delayed jobs are left, on every node."""
        lives = []
        for n in NODES:
            lines = self.stats(n)
            if not lines or any(l.get("owed") for l in lines) or any(l.get("pending") or l.get("queued") or l.get("running") for l in lines):
                return False
            lives.append(self.live(n))
        # A job without a due time has still to run, even if it is held.
        return lives[0] == lives[1] == lives[2] and lives[0] is not None and all(job[5] for job in lives[0])

    def live(self, name):
        code, text = self.nodes[name].output("gq-inspect", "list", "--json", codes=None)
        keys = ("id", "function", "size", "attempts", "enqueued_at", "due_at", "node", "identity", "term")
        return sorted([j.get(k) for k in keys] for j in map(json.loads, text.splitlines())) if code == 0 else None

    def judge(self):
        """Adds the problems, and returns how many jobs were acknowledged and how many ran on several nodes."""
        problems = self.client.problems
        if not wait_until(self.paid, 60):
            for n in NODES:
                problems.append(f"{n} is not done: {self.stats(n)} {self.live(n)}")
        for w in self.nodes.values():
            if w.alive("worker"):
                w.running["worker"].terminate()
                w.wait(w.running["worker"])
        submitted = {t: b for b in self.client.batches for t in b.tags}
        runs, doubled = {}, 0
        for name, w in self.nodes.items():
            started = {}
            for event, id, tag in w.events():
                if event == "overlap":
                    problems.append(f"{id} ran twice at the same time on {name}")
                elif event == "start":
                    started[id] = tag
                    if tag not in submitted:
                        problems.append(f"{id} ran with {tag}, which nobody submitted")
                else:
                    if started.get(id) != tag:
                        problems.append(f"{id} ended with {tag} and began with {started.get(id)}")
                    runs.setdefault(id, []).append(name)
            code, text = w.output("gq-inspect", "check", codes=None)
            if code:
                problems.append(f"gq-inspect check of {name}: {text[:300]}")
            problems.extend(w.problems)
        delayed = {id for b in self.delayed for id in b.printed()}
        held = {n: {j[0] for j in self.live(n) or []} for n in NODES}
        acknowledged = self.acknowledged()
        for id in acknowledged:
            if id in delayed:
                for n in NODES:
                    if id not in held[n]:
                        problems.append(f"{id} is not on {n} any more")
            elif id not in runs:
                problems.append(f"{id} was acknowledged and never ran")
            elif self.policy == "all" and (lacking := set(NODES) - self.wiped - set(runs[id])):
                problems.append(f"{id} did not run on {lacking}")
        if self.policy == "once":
            doubled = sum(len(set(names)) > 1 for names in runs.values())
        return len(acknowledged), doubled

    def close(self):
        for w in (*self.worlds(), *self.extra):
            for p in w.running.values():
                if p.poll() is None:
                    os.kill(p.pid, signal.SIGCONT)
            w.end_all()
        for path in self.mounted:
            subprocess.run(["umount", "-l", path], check=False)
        self.net.close()


# Each fault happens while jobs are submitted: before() sets it up, during() makes it happen.

def nothing(g):
    pass


def kill_worker(g):
    name = g.random.choice(NODES)
    g.nodes[name].kill("worker")
    time.sleep(g.random.uniform(0, 4))
    g.start(name)


def lose_node(g):
    name = g.random.choice(NODES)
    g.net.cut(name)
    g.nodes[name].kill("worker")
    time.sleep(g.random.uniform(0, 5))
    g.net.cut(name, down=False)
    g.start(name)


def lose_server(g):
    name = g.random.choice(("g1", "g2"))
    if g.random.random() < 0.5:
        g.net.cut(name)
    g.client.kill(name)
    time.sleep(g.random.uniform(0, 2))
    g.net.cut(name, down=False)
    g.start_server(name)


def cut_link(g):
    name = g.random.choice((*NODES, "g1"))
    g.net.cut(name)
    time.sleep(g.random.uniform(0.5, 4))
    g.net.cut(name, down=False)


def cut_one_way(g):
    name = g.random.choice(NODES)
    pairs = [(name, s) for s in ("g1", "g2")] if g.random.random() < 0.5 else [(s, name) for s in ("g1", "g2")]
    for host, to in pairs:
        g.net.cut_one_way(host, to)
    time.sleep(g.random.uniform(0.5, 4))
    for host, to in pairs:
        g.net.cut_one_way(host, to, down=False)


def stop_process(g):
    p = g.nodes[g.random.choice(NODES)].running["worker"]
    os.kill(p.pid, signal.SIGSTOP)
    time.sleep(g.random.uniform(0.5, 4))
    os.kill(p.pid, signal.SIGCONT)


def small_disk(g):
    if os.geteuid() == 0:
        path = g.nodes["rep_3"].store
        path.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", path], check=True)
        g.mounted.append(path)


def fill_disk(g):
    if not g.mounted:
        return
    filler = g.nodes["rep_3"].store / "lost+found"
    fill(filler)
    time.sleep(g.random.uniform(0.5, 2))
    filler.unlink()


def destroy_after_answer(g):
    """K - 1 stores are destroyed as soon as the client has its answer."""
    for b in g.client.batches:
        g.client.wait(b.process, codes=(0, 75))
    name = g.random.choice(NODES)
    wipe(g, name)


def wipe(g, name=None):
    name = name or g.random.choice(NODES)
    w = g.nodes[name]
    w.kill("worker")
    shutil.rmtree(w.store)
    g.wiped.add(name)
    g.init(name)
    g.start(name)


def restore_old(g):
    name = g.random.choice(NODES)
    w = g.nodes[name]
    w.kill("worker")
    shutil.copytree(w.store, w.dir / "copy")
    g.start(name)
    time.sleep(1)
    w.kill("worker")
    shutil.rmtree(w.store)
    os.rename(w.dir / "copy", w.store)
    g.wiped.add(name)
    g.init(name, "--renew")
    g.start(name)


def two_of_one_name(g):
    impostor = World(g.client.dir / "impostor", 0, seconds="0.01")
    impostor.env["GQ_SERVERS"] = g.client.env["GQ_SERVERS"]
    impostor.run("gq-replicate", "init", "--as", "rep_3", "--group", ",".join(NODES), "--run", g.policy)
    g.extra.append(impostor)
    impostor.spawn("worker", "gq-worker", "-f", "other", *TIMES, *g.auth, "--", "true", wrap=g.net.on("rep_3"))
    time.sleep(g.random.uniform(1, 3))
    # Jobs that the impostor was told meanwhile are not told again to the real node when they have run.
    g.wiped.add("rep_3")
    impostor.kill("worker")
    time.sleep(2.5)


def clocks_apart(g):
    g.clocks = {"rep_2": -3600, "rep_3": 3600}


ROUNDS = {
    "no fault": (nothing, nothing),
    "worker killed": (nothing, kill_worker),
    "node lost": (nothing, lose_node),
    "server lost": (nothing, lose_server),
    "link cut": (nothing, cut_link),
    "link cut one way": (nothing, cut_one_way),
    "process stopped": (nothing, stop_process),
    "disk full": (small_disk, fill_disk),
    "store destroyed after the answer": (nothing, destroy_after_answer),
    "node wiped": (nothing, wipe),
    "old copy restored": (nothing, restore_old),
    "two of one name": (nothing, two_of_one_name),
    "clocks apart": (clocks_apart, kill_worker),
}


def one_round(directory, seed, kind, policy):
    g = Group(directory, seed, policy)
    before, during = ROUNDS[kind]
    try:
        before(g)
        g.start_all()
        g.delayed.append(g.enqueue(3, "--delay", "2h"))
        g.client.wait(g.delayed[0].process, codes=(0, 75))
        pool = concurrent.futures.ThreadPoolExecutor(1)
        for n in range(4):
            batch = g.enqueue()
            if n == 1:
                fault = pool.submit(during, g)
            time.sleep(g.random.uniform(0, 0.5))
            if kind == "no fault" or g.random.random() < 0.5:
                g.client.wait(batch.process, codes=(0, 75), seconds=30)
        for b in g.client.batches:
            g.client.wait(b.process, codes=(0, 75), seconds=30)
        fault.result()
        acknowledged, doubled = g.judge()
        if kind == "no fault" and doubled:
            g.client.wrong(f"{doubled} jobs ran more than once although there was no fault")
        return g.client, acknowledged, doubled
    finally:
        g.close()


def group(directory, seed, short=True, rounds=None, kinds=None, **_):
    """Rounds of each fault. Several groups run at a time, because they mostly wait."""
    seeds = random.Random(seed)
    todo = [(kind, ("all", "once")[n % 2], seeds.randrange(1 << 32)) for n in range(rounds or (2 if short else 20)) for kind in (kinds or ROUNDS)]
    if sanitized():  # a sanitizer itself needs the real clock
        todo = [t for t in todo if t[0] != "clocks apart"]
    total = World(os.path.join(directory, "total"), seed)
    lock, acknowledged, doubles = threading.Lock(), [0], {}
    queue = iter(enumerate(todo))

    def work():
        while True:
            with lock:
                item = next(queue, None)
            if item is None:
                return
            n, (kind, policy, round_seed) = item
            try:
                w, count, doubled = one_round(os.path.join(directory, f"round{n}"), round_seed, kind, policy)
                problems = w.problems
            except Exception as e:
                count, doubled, problems = 0, 0, [repr(e)]
            with lock:
                acknowledged[0] += count
                doubles[kind] = doubles.get(kind, 0) + doubled
                total.problems.extend(f"{kind}, run {policy}: {p}" for p in problems)
                if not problems:
                    shutil.rmtree(os.path.join(directory, f"round{n}"), ignore_errors=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    where = "hosts in namespaces" if os.geteuid() == 0 else "ports on loopback: no link is cut"
    ran_twice = {k: d for k, d in doubles.items() if d}
    return total, f"{len(todo)} rounds ({where}), {acknowledged[0]} acknowledged, run more than once: {ran_twice or 0}"

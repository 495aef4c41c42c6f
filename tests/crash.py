#!/usr/bin/env python3
"""Kills gq's programs and gearmand with SIGKILL at random moments, round after round on one store, then asks the oracle.

The oracle knows only what the outside saw: the workloads that were handed to gq-enqueue, the IDs it printed, and a ledger
that each run of the command appends to. Right is: every acknowledged job ran to its end, or is dead; nothing ran that was
not submitted; no job ran twice at the same time; gq-inspect check answers 0.

usage: crash.py [--rounds N] [--seed S]      (GQ_BUILD names the directory with the programs)
"""
import argparse, json, os, pathlib, random, signal, socket, subprocess, sys, tempfile, time

COMMAND = r'''#!/bin/sh
exec 9>>"$LEDGER.locks/$GQ_JOB_ID"
flock -n 9 || echo "overlap $GQ_JOB_ID" >>"$LEDGER"
data=$(cat)
echo "start $GQ_JOB_ID $data" >>"$LEDGER"
sleep 0.0$(($$ % 4))
echo "end $GQ_JOB_ID $data" >>"$LEDGER"
'''


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Crash:
    def __init__(self, directory, seed):
        self.random = random.Random(seed)
        self.dir = pathlib.Path(directory)
        self.port = free_port()
        self.ledger = self.dir / "ledger"
        (self.dir / "ledger.locks").mkdir()
        self.command = self.dir / "command"
        self.command.write_text(COMMAND)
        self.command.chmod(0o755)
        self.env = dict(os.environ, LEDGER=str(self.ledger), GQ_STORE=str(self.dir / "store"),
                        GQ_SERVERS=f"127.0.0.1:{self.port}",
                        PATH=os.environ["GQ_BUILD"] + ":" + os.environ["PATH"] + ":/usr/sbin")
        self.submitted, self.outputs, self.running = set(), [], {}
        self.serial = 0
        self.kills = {}

    def start(self, name, *argv, stdin=None, stdout=subprocess.DEVNULL):
        with open(self.dir / f"{name}.err", "ab") as err:
            p = subprocess.Popen(argv, stdin=stdin or subprocess.DEVNULL, stdout=stdout, stderr=err, env=self.env)
        self.running[name] = p
        return p

    def alive(self, name):
        return name in self.running and self.running[name].poll() is None

    def enqueue(self, name, *options):
        """Starts gq-enqueue with some lines on its standard input; its output is the list of acknowledged IDs."""
        count = self.random.randint(1, 60)
        lines = []
        for _ in range(count):
            self.serial += 1
            lines.append(f"job-{self.serial}")
        self.submitted.update(lines)
        source, out = self.dir / f"in.{self.serial}", self.dir / f"out.{self.serial}"
        source.write_text("".join(line + "\n" for line in lines))
        self.outputs.append((out, lines))
        with open(source) as i, open(out, "w") as o:
            self.start(name, "gq-enqueue", "f", "-l", "--timeout", "3s", *options, stdin=i, stdout=o)

    def round(self):
        work = ["-f", "f", "-j", "2", "--backoff", "10ms", "--max-attempts", "100", "--max-crashes", "100"]
        if not self.alive("gearmand"):
            self.start("gearmand", "gearmand", "-L", "127.0.0.1", "-p", str(self.port), "-l", str(self.dir / "gearmand.log"))
        for name in "worker1", "worker2":
            if not self.alive(name):
                self.start(name, "gq-worker", *work, "--", str(self.command))
        if not self.alive("flush"):
            self.start("flush", "gq-flush", *work, "--", str(self.command))
        if not self.alive("enqueue"):
            self.enqueue("enqueue")
        if not self.alive("local"):
            self.enqueue("local", "--local")
        time.sleep(self.random.uniform(0.0, 0.3))
        victims = [n for n in self.running if self.alive(n)]
        for name in self.random.sample(victims, min(len(victims), self.random.randint(1, 2))):
            self.running[name].send_signal(signal.SIGKILL)
            self.running[name].wait()
            self.kills[name] = self.kills.get(name, 0) + 1

    def finish(self):
        for name in "enqueue", "local":
            if name in self.running:
                self.running[name].wait()
        for name in "worker1", "worker2":
            if self.alive(name):
                self.running[name].terminate()
                if self.running[name].wait(timeout=60) != 0:
                    return [f"{name}: SIGTERM ended it with {self.running[name].returncode}"]
        if self.alive("flush"):
            self.running["flush"].wait(timeout=60)
        subprocess.run(["gq-worker", "--local", "--drain", "-f", "f", "-j", "4", "--max-crashes", "100", "--",
                        str(self.command)], env=self.env, check=True, timeout=300)
        if self.alive("gearmand"):
            self.running["gearmand"].kill()
        return self.oracle()

    def oracle(self):
        problems = []
        acknowledged = {}
        for out, lines in self.outputs:
            for id, line in zip([l for l in out.read_text().split("\n")[:-1]], lines):
                acknowledged[id] = line
        started, ended = {}, {}
        for line in self.ledger.read_text().splitlines():
            event, id, *data = line.split(" ")
            if event == "overlap":
                problems.append(f"{id} ran twice at the same time")
            if event == "start":
                started[id] = data[0] if data else ""
            if event == "end":
                ended[id] = data[0] if data else ""
        held = {}
        listing = subprocess.run(["gq-inspect", "list", "--json"], env=self.env, check=True, capture_output=True, text=True)
        for line in listing.stdout.splitlines():
            job = json.loads(line)
            held[job["id"]] = job["state"]
        for id, data in acknowledged.items():
            if ended.get(id) != data and held.get(id) != "dead":
                problems.append(f"{id} ({data}) was acknowledged and is lost: ended {ended.get(id)}, held {held.get(id)}")
        for id, data in started.items():
            if data not in self.submitted:
                problems.append(f"{id} ran with {data!r}, which nobody submitted")
        twice = {}
        for id, data in started.items():
            twice.setdefault(data, []).append(id)
        problems += [f"{data} became {len(ids)} jobs: {ids}" for data, ids in twice.items() if len(ids) > 1]
        check = subprocess.run(["gq-inspect", "check"], env=self.env, capture_output=True, text=True)
        if check.returncode != 0:
            problems.append(f"gq-inspect check: {check.returncode} {check.stdout}{check.stderr}")
        print(f"{len(acknowledged)} of {len(self.submitted)} jobs acknowledged, {len(ended)} ran, "
              f"{len([s for s in held.values() if s == 'dead'])} dead; killed: {self.kills}")
        return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    print(f"crash.py --rounds {args.rounds} --seed {args.seed}")
    with tempfile.TemporaryDirectory() as directory:
        crash = Crash(directory, args.seed)
        try:
            for _ in range(args.rounds):
                crash.round()
            problems = crash.finish()
        finally:
            for p in crash.running.values():
                p.kill()
                p.wait()
        for problem in problems[:20]:
            print(problem, file=sys.stderr)
        if problems and os.environ.get("KEEP"):
            subprocess.run(["cp", "-a", directory, os.environ["KEEP"]])
        return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

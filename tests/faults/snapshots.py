"""Snapshots are taken in a loop while workers run and are killed; each is verified, restored and checked, and holds all jobs that
were acknowledged before it."""
import os, shutil, time

from .world import World

FEW, MANY = 6, 60


def snapshots(directory, seed, short=True, rounds=None, **_):
    w = World(os.path.join(directory, "w"), seed, seconds="0.01")
    w.wait(w.enqueue("enqueue", [10, 100000], "--local").process)
    w.settings(segment_size="200K", clean_after="0s", remember="1s")
    target = w.dir / "snapshots"
    restored = taken = 0
    for n in range(rounds or (FEW if short else MANY)):
        for name in "worker", "worker2":
            if not w.alive(name):
                w.worker(name, "--local", "-j", 2)
        batches = [w.enqueue(f"enqueue.{i}", [w.random.choice([10, 1000, 100000]) for _ in range(20)], "--local") for i in range(2)]
        w.wait(batches[0].process)
        before = {id for b in w.batches for id in b.printed()}
        p = w.spawn("create", "gq-snapshot", "create", target)
        if w.random.random() < 0.5:
            time.sleep(w.random.random() / 20)
            w.kill(w.random.choice(["worker", "worker2", "create"]))
        w.wait(p, codes=(0, -9))
        taken += p.returncode == 0
        w.wait(batches[1].process)
        if p.returncode != 0:
            continue
        code, text = w.output("gq-snapshot", "list", target)
        name = text.splitlines()[-1].split("\t")[0]
        w.run("gq-snapshot", "verify", target / name)
        copy = w.dir / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        w.run("gq-snapshot", "restore", target / name, "--store", copy)
        w.run("gq-inspect", "check", "--store", copy)
        code, text = w.output("gq-inspect", "list", "--store", copy)
        held = {line.split("\t")[0] for line in text.splitlines()}
        ended = {id for event, id, tag in w.events() if event == "end"}
        for id in before - held - ended:
            w.wrong(f"{id} was acknowledged before a snapshot began and is not finished, but is not in the snapshot")
        restored += 1
        w.run("gq-snapshot", "prune", target, "--keep-last", 2)
        if w.problems:
            break
    for name in list(w.running):
        w.kill(name)
    w.work_off()
    return w, f"{taken} snapshots, {restored} restored; " + w.oracle()

"""kill -9 of every program at random moments, round after round on one store."""
import time

from .world import World, blocks_sigterm, wait_until


def kill(directory, seed, rounds=50, prepare=None, meanwhile=None, **_):
    """Calls `prepare` with the World before the first round, and `meanwhile` in each round."""
    w = World(directory, seed, seconds="0.02")
    try:
        if prepare:
            prepare(w)
        for _ in range(rounds):
            if not w.alive("gearmand"):
                w.gearmand()
            for name in "worker1", "worker2":
                if not w.alive(name):
                    w.worker(name, "-j", 2)
            if not w.alive("flush"):
                w.flush("flush", "-j", 2)
            for name, options in ("enqueue", ["--timeout", "3s"]), ("local", ["--local"]):
                if not w.alive(name):
                    sizes = [w.random.choice((0, 10, 1000)) for _ in range(w.random.randint(1, 60))]
                    if w.random.random() < 0.3:
                        sizes.append(70000)
                    if w.random.random() < 0.3:
                        options, sizes = [*options, "--serial", w.random.choice("ab")], sizes[:5]
                    w.enqueue(name, sizes, *options)
            time.sleep(w.random.uniform(0.0, 0.3))
            victims = [n for n in w.running if w.alive(n)]
            for name in w.random.sample(victims, min(len(victims), w.random.randint(1, 2))):
                w.kill(name)
            if meanwhile:
                meanwhile(w)
        for name in "enqueue", "local":
            w.wait(w.running[name], codes=None)
        for name in "worker1", "worker2":
            if w.alive(name):
                wait_until(lambda: blocks_sigterm(w.running[name]))  # it may have just begun
                w.running[name].terminate()
                w.wait(w.running[name])
        if w.alive("flush"):
            w.wait(w.running["flush"], seconds=300)  # gq-flush may have to run a thousand jobs on a busy disk
        w.work_off()
        w.kill("gearmand")
        return w, w.oracle()
    finally:
        w.end_all()

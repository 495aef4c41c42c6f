#!/usr/bin/env python3
"""Runs faults against the programs of gq, and judges the result by what was visible from outside (see faults/world.py).

usage: torture.py [--minutes M] [--seed S] [--only FAULT[,FAULT]] [--rounds N] [--long] [--list] [--soak] [--churn [--jobs N]]    (GQ_BUILD names the programs)

Each fault runs once, in its short form, or with --long in its long form. With --minutes the long forms follow, in random
order and each with another seed, until the time is over. Then each run takes the next of the builds that GQ_BUILDS names. The
report of a failure ends with the command that repeats it. --soak runs one worker under valgrind for an hour, or for so many
--minutes. --churn passes two million jobs, or N, through a store, keeps one in a hundred, and watches the disk.
"""
import argparse, os, random, shutil, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faults import calls, churn, cleaning, database, disk, group, kill, machine, servers, snapshots, soak, stranger
from faults.world import World, sanitized


def altered_bytes(directory, seed, short=True, **_):
    w = World(os.path.join(directory, "w"), seed)
    code, text = w.output("gq-bytes", os.path.join(directory, "store"), (1500 if sanitized() else 200) if short else 1, codes=None, seconds=3600)
    w.expect(code == 0, text[:2000])
    return w, text.strip()


FAULTS = {
    "kill": kill.kill,
    "killed-at-calls": calls.killed_at_calls,
    "failing-calls": calls.failing_calls,
    "full-at-calls": calls.full_at_calls,
    "power-cut": disk.power_cut,
    "failing-syncs": disk.failing_syncs,
    "full-disk": disk.full,
    "gearmand": servers.gearmand,
    "exhausted": machine.exhausted,
    "clock": machine.clock,
    "pids": machine.pids,
    "refused": machine.refused,
    "altered-bytes": altered_bytes,
    "group": group.group,
    "stranger": stranger.stranger,
    "cleaning": cleaning.cleaning,
    "snapshots": snapshots.snapshots,
    "database": database.database,
}
# These faults depend only on the calls that a program makes and on the bytes in its files, which are the same on any disk. As
# root, they have their stores in memory, where a sync takes no time.
IN_MEMORY = {"killed-at-calls", "failing-calls", "full-at-calls", "exhausted", "altered-bytes"}
# A sanitizer itself needs memory, descriptors and the real clock.
NOT_SANITIZED = {"exhausted", "clock"}


def run_one(name, seed, options):
    print(f"{name} --seed {seed} [{os.path.basename(os.environ['GQ_BUILD'])}] ...", end=" ", flush=True)
    if name in NOT_SANITIZED and sanitized():
        print("skipped: it does not work with a sanitizer")
        return True
    start = time.monotonic()
    directory = tempfile.mkdtemp(prefix="gq-torture.")
    in_memory = name in IN_MEMORY and os.geteuid() == 0
    try:
        if in_memory:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,mode=700", "tmpfs", directory], check=True)
        world, line = FAULTS[name](directory, seed, **options)
        print(f"{line} [{time.monotonic() - start:.0f} s]" if not world.problems else "FAILED", flush=True)
        for problem in world.problems[:10]:
            print(f"  {problem}")
        if world.problems:
            print(f"  to repeat: GQ_BUILD={os.environ['GQ_BUILD']} scripts/torture --only {name} --seed {seed}{'' if options.get('short', True) else ' --long'}", flush=True)
            if os.environ.get("KEEP"):
                shutil.copytree(directory, os.path.join(os.environ["KEEP"], f"{name}.{seed}"), symlinks=True, dirs_exist_ok=True)
        return not world.problems
    finally:
        if in_memory:
            subprocess.run(["umount", "-l", directory])
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", default=",".join(FAULTS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--churn", action="store_true")
    parser.add_argument("--jobs", type=int, default=2_000_000)
    args = parser.parse_args()
    if args.list:
        print("\n".join(FAULTS))
        return 0
    if args.soak:
        FAULTS["soak"] = soak.soak
        return 0 if run_one("soak", args.seed, {"minutes": args.minutes or 60.0}) else 1
    if args.churn:
        FAULTS["churn"] = churn.churn
        return 0 if run_one("churn", args.seed, {"jobs": args.jobs}) else 1
    names = args.only.split(",")
    if unknown := [n for n in names if n not in FAULTS]:
        parser.error(f"no such fault: {', '.join(unknown)} (--list prints all faults)")
    options = {"rounds": args.rounds} if args.rounds else {}
    seeds = random.Random(args.seed)
    ok = True
    end = time.monotonic() + 60 * (args.minutes or 0)
    builds = os.environ.get("GQ_BUILDS", "").split(":") if args.minutes else []
    short = True
    runs = 0
    while short or time.monotonic() < end:
        for name in names:
            if short or time.monotonic() < end:
                if builds:
                    os.environ["GQ_BUILD"] = builds[runs % len(builds)]
                    runs += 1
                ok &= run_one(name, args.seed if short else seeds.randrange(1 << 32), dict(options, short=short and not args.long))
        short = False
        seeds.shuffle(names)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())

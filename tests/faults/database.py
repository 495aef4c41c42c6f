"""The store is in a database. Its helpers are killed, too, and now and then the machine reboots, so that nothing is left of the
copy. SQLite stands for all databases, since gq-store-test tests what gq requires of any of them.
"""
import os, pathlib, shutil, signal, subprocess, time

from . import kill

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


def prepare(w):
    w.env["PATH"] = f"{SCRIPTS}:{w.env['PATH']}"
    w.store.mkdir(mode=0o700)
    w.database = w.dir / "database"
    own = subprocess.run(["stat", "-c", "%d %i %.9W", w.store], capture_output=True, text=True, check=True).stdout
    (w.store / "database").write_text(f"exec:gq-store-dbi dbi:SQLite:{w.database}\ndirectory {own}")
    w.restarts = w.helpers = 0


def helpers(w):
    found = subprocess.run(["pgrep", "-f", f"gq-store-dbi dbi:SQLite:{w.database}"], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def kill_pid(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def meanwhile(w):
    for pid in helpers(w):
        if w.random.random() < 0.2:
            w.helpers += 1
            kill_pid(pid)
    if w.random.random() < 0.15:
        restart(w)


def restart(w):
    """A reboot: all processes end, and unsynced files are gone, which are all files of the copy."""
    for name in list(w.running):
        w.kill(name)
    for pid in helpers(w):
        kill_pid(pid)
    subprocess.run(["pkill", "-9", "-f", str(w.command)])
    time.sleep(0.1)
    for path in w.store.iterdir():
        if path.name != "database":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    w.restarts += 1


def database(directory, seed, rounds=40, **_):
    w, line = kill.kill(directory, seed, rounds, prepare=prepare, meanwhile=meanwhile)
    w.expect(w.restarts > 0 and w.helpers > 0, "nothing was done to the database")
    return w, f"{line}, {w.restarts} restarts, {w.helpers} helpers killed"

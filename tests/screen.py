#!/usr/bin/python3
"""Runs a program on a terminal, and prints what the terminal shows: screen.py ROWSxCOLUMNS STEP... -- COMMAND...

A STEP is one of
  wait:TEXT        wait until the screen contains the text, for 30 seconds at most; gone:TEXT until it does not
  send:KEYS        type these; \\e is Escape and \\r is Enter
  size:ROWSxCOLS   change the size of the terminal
  run:COMMAND      run a command of the shell meanwhile
  signal:NUMBER    send the program a signal
  show             print the screen
  end              wait until the program ends; print "exit STATUS", and how the screen looks then
"""
import fcntl, os, pty, select, signal, struct, sys, termios, time
import pyte

def size_of(text):
    rows, columns = text.split("x")
    return int(rows), int(columns)

split = sys.argv.index("--")
steps, command = sys.argv[2:split], sys.argv[split + 1:]
rows, columns = size_of(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.environ["TERM"] = "linux"
    os.execvp(command[0], command)
screen = pyte.Screen(columns, rows)
stream = pyte.ByteStream(screen)

def read_on(seconds):
    """Returns False if the program has ended."""
    if not select.select([fd], [], [], seconds)[0]:
        return True
    try:
        data = os.read(fd, 65536)
    except OSError:
        return False
    stream.feed(data)
    return bool(data)

def show():
    print("\n".join(line.rstrip() for line in screen.display), flush=True)

def until(reached):
    end = time.monotonic() + 30
    while not reached():
        if time.monotonic() > end:
            show()
            os.kill(pid, signal.SIGKILL)
            sys.exit("the screen does not show it: " + step)
        if not read_on(0.1):
            time.sleep(0.1)

for step in steps:
    kind, _, text = step.partition(":")
    if kind == "wait":
        until(lambda: text in "\n".join(screen.display))
    elif kind == "gone":
        until(lambda: text not in "\n".join(screen.display))
    elif kind == "send":
        os.write(fd, text.replace("\\e", "\x1b").replace("\\r", "\r").encode())
    elif kind == "size":
        rows, columns = size_of(text)
        screen.resize(rows, columns)
        screen.reset()
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    elif kind == "run":
        os.system(text)
    elif kind == "signal":
        os.kill(pid, int(text))
    elif kind == "show":
        show()
    elif kind == "end":
        while read_on(10):
            pass
        print("exit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        show()
        sys.exit()
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)

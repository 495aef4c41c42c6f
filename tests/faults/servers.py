"""gearmand is killed, stopped, restarted empty, and shares its host name with another one; the network cuts and garbles packets."""
import os, random, select, signal, socket, struct, threading, time

from .world import World, free_port, wait_until


class Proxy(threading.Thread):
    """A relay between the programs and a gearmand. With `evil` set it cuts connections in mid-packet, garbles and delays."""

    def __init__(self, target, seed):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.target, self.evil, self.ended = target, True, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        pairs = {}
        while not self.ended:
            ready, _, _ = select.select([self.listener, *pairs], [], [], 0.1)
            for s in ready:
                if s is self.listener:
                    client, _ = self.listener.accept()
                    try:
                        server = socket.create_connection(("127.0.0.1", self.target), 2)
                    except OSError:
                        client.close()
                        continue
                    pairs[client], pairs[server] = server, client
                    continue
                if s not in pairs:
                    continue
                other = pairs[s]
                try:
                    data = s.recv(65536)
                    what = self.random.random() if self.evil else 1
                    if data and what < 0.03:
                        data = data[:self.random.randrange(len(data))]  # and then the connection is silent
                    elif data and what < 0.05:
                        at = self.random.randrange(len(data))
                        data = data[:at] + self.random.randbytes(self.random.randint(1, 40)) + data[at:]
                        what = 1
                    elif what < 0.1:
                        time.sleep(self.random.random() * 0.1)
                        what = 1
                    if data:
                        other.sendall(data)
                    if not data or what < 0.03:
                        raise OSError
                except OSError:
                    for end in s, other:
                        pairs.pop(end, None)
                        end.close()

    def end(self):
        self.ended = True
        self.join()
        self.listener.close()


def packet(command, *args, data=None):
    body = b"\0".join([*args, data] if data is not None else args)
    return b"\0RES" + struct.pack(">II", command, len(body)) + body


def nonsense(rng):
    """Packets of a server at the wrong time and about jobs that do not exist, or bytes that are no packets."""
    handle = b"H:%s:%d" % (rng.choice((b"host", b"h" * 50)), rng.randint(0, 3))
    noise = rng.randbytes(rng.choice((0, 1, 30, 10000)))
    no_nul = noise.replace(b"\0", b"")[:100]
    return rng.choice((
        lambda: noise, lambda: b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", lambda: packet(6), lambda: packet(10),
        lambda: packet(8, handle), lambda: packet(14, handle), lambda: packet(12, handle, no_nul, b"7"),
        lambda: packet(13, handle, data=noise), lambda: packet(17, data=noise), lambda: packet(28, handle, data=noise),
        lambda: packet(29, handle, data=noise), lambda: packet(25, handle, data=noise), lambda: packet(19, no_nul, noise),
        lambda: packet(11, handle, b"f.gq", data=noise), lambda: packet(31, handle, b"f.gq", no_nul, data=noise),
        lambda: packet(40, handle, b"f.gq", no_nul, b"", data=noise), lambda: packet(11, handle, b"other", data=noise),
        lambda: packet(rng.randint(0, 50), handle, data=noise), lambda: packet(13, handle, data=noise)[:-1],
        lambda: b"\0RES" + struct.pack(">II", rng.randint(0, 50), rng.choice((0, 1, 2**31, 2**32 - 1))) + noise))()


def answering_garbage(port, stop, seed):
    """Serves that port, claims to have workers, and answers everything else with nonsense."""
    rng = random.Random(seed)
    listener = socket.create_server(("127.0.0.1", port))
    listener.settimeout(0.1)

    def answer(s):
        try:
            s.settimeout(0.3)
            while not stop.is_set():
                asked = s.recv(65536)
                if asked.startswith(b"status\n"):
                    word = asked[len(b"status\n") + 12:]  # the word of the echo request that follows
                    s.sendall(b"f\t0\t0\t1\nf.gq\t0\t0\t1\n.\n\0RES" + struct.pack(">II", 17, len(word)) + word)
                else:
                    s.sendall(b"".join(nonsense(rng) for _ in range(rng.randint(1, 4))))
        except OSError:
            pass
        s.close()

    while not stop.is_set():
        try:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            pass
    listener.close()


def gearmand(directory, seed, short=True, rounds=None, **_):
    w = World(directory, seed, seconds="0.01")
    second = free_port()
    proxy = None
    try:
        w.gearmand()
        w.gearmand("second", second)
        proxy = Proxy(w.port, seed)
        proxy.start()
        through = f"127.0.0.1:{proxy.port},127.0.0.1:{second}"
        w.worker("worker", "-j", 2, "--servers", through)
        w.worker("direct", "-j", 2, "--servers", f"127.0.0.1:{second},127.0.0.1:{w.port}")
        for _ in range(rounds or (8 if short else 60)):
            for n, servers in enumerate((through, f"127.0.0.1:{proxy.port}", f"127.0.0.1:{w.port},127.0.0.1:{second}")):
                if not w.alive(f"enqueue{n}"):
                    w.enqueue(f"enqueue{n}", [w.random.choice((0, 10, 1000, 200000)) for _ in range(w.random.randint(1, 60))],
                              "--timeout", "3s", "--servers", servers)
            time.sleep(0.3 * w.random.random())
            victim, port = w.random.choice((("gearmand", w.port), ("second", second)))
            what = w.random.choice(("kill", "stop", "replace", "garbage", "nothing"))
            if what in ("kill", "replace"):
                w.kill(victim)
                if what == "kill":
                    time.sleep(0.3 * w.random.random())
            elif what == "stop":
                w.running[victim].send_signal(signal.SIGSTOP)
                time.sleep(w.random.random())
                w.running[victim].send_signal(signal.SIGCONT)
            elif what == "garbage":
                w.kill(victim)
                stop = threading.Event()
                t = threading.Thread(target=answering_garbage, args=(port, stop, w.random.random()))
                t.start()
                time.sleep(0.5 * w.random.random())
                stop.set()
                t.join()
            if not w.alive(victim):
                w.gearmand(victim, port)
        proxy.evil = False
        for n in range(3):
            w.wait(w.running[f"enqueue{n}"], codes=(0, 65, 69, 75))
        # After the faults a new job gets through without a restart of the workers.
        for servers in through, f"127.0.0.1:{proxy.port}":
            w.expect(wait_until(lambda: w.served() and w.served(second), 15), "a worker does not serve the servers that are back")
            w.wait(w.enqueue("after", [10], "--timeout", "10s", "--servers", servers).process)
        for name in "worker", "direct":
            w.expect(w.alive(name), f"{name} ended")
            w.running[name].terminate()
            w.wait(w.running[name], codes=(0,))
        w.work_off()
        return w, w.oracle()
    finally:
        w.end_all()
        if proxy:
            proxy.end()

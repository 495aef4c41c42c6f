# relay.py LISTEN TARGET RATE [STALL]: relays connections from one local port to another. It carries at most RATE bytes a second from
# the clients (0: no limit). The bytes to the clients stall for STALL seconds after each MB.
import socket, sys, threading, time

listen, target, rate = map(int, sys.argv[1:4])
stall = float((sys.argv[4:] or [0])[0])
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", listen))
server.listen(64)
lock, free_at = threading.Lock(), [time.monotonic()]  # all connections share one link


def carry(source, sink, limited):
    carried = 0
    try:
        while data := source.recv(16384 if limited else 65536):
            if limited and rate:
                with lock:
                    free_at[0] = at = max(free_at[0], time.monotonic()) + len(data) / rate
                time.sleep(max(0, at - time.monotonic()))
            carried += len(data)
            if stall and not limited and carried >= 1000000:
                carried = 0
                time.sleep(stall)
            sink.sendall(data)
    except OSError:
        pass
    for s in (source, sink):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


while True:
    client, _ = server.accept()
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    peer.connect(("127.0.0.1", target))
    threading.Thread(target=carry, args=(client, peer, True), daemon=True).start()
    threading.Thread(target=carry, args=(peer, client, False), daemon=True).start()

# What quickstart, bench and the tests share to start a Gearman server on loopback and to wait for it. Sourced, not run.
# Ports lie below those that the kernel gives to connecting sockets.

answers() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local port
  for port in $(shuf -i 20000-31999 -n 50); do
    answers "$port" || { echo "$port"; return; }
  done
  return 1
}

# The lines of gearmand's status: function, jobs, running, workers.
status() { (exec 5<>"/dev/tcp/127.0.0.1/$1" && echo status >&5 && timeout 2 sed '/^\.$/q' <&5) 2>/dev/null; }

# Whether a worker has registered for a function: served PORT FUNCTION.
served() { status "$1" | grep -qE "^$2[[:space:]]+[0-9]+[[:space:]]+[0-9]+[[:space:]]+[1-9]"; }

# Polls until the command succeeds, for a minute or so.
eventually() {
  local _
  for _ in $(seq 1200); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.05
  done
  echo "never: $*" >&2
  return 1
}

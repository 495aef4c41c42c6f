# Functions that start servers and wait for them, for quickstart, bench and the tests. To be sourced, not run.
# Ports are below those that the kernel gives to connecting sockets.

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

# Polls until the command succeeds, at most 30 s.
eventually() {
  local _
  for _ in $(seq 600); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.05
  done
  echo "never: $*" >&2
  return 1
}

# Start a private database server in a new directory DIR, with a socket there: start_postgres DIR [OPTION...], start_mariadb DIR
# [OPTION...]. If root runs the script, the server runs as the user that its package has made. They set $SERVER, the server's
# pid, and $DSN, which reaches it.
own_directory() {
  mkdir -p "$1"
  chmod 700 "$1"
  ((EUID != 0)) || chown "$2" "$1"
}

# shellcheck disable=SC2034  # SERVER and DSN are for the caller
start_postgres() {
  local directory=$1 bin user=()
  shift
  bin=$(echo /usr/lib/postgresql/*/bin)
  ((EUID != 0)) || user=(setpriv --reuid postgres --regid postgres --init-groups)
  if [[ ! -e $directory/PG_VERSION ]]; then
    own_directory "$directory" postgres
    "${user[@]}" "${bin##* }/initdb" -D "$directory" -U gq -A trust --no-sync -E UTF8 --locale C.UTF-8 >/dev/null
  fi
  # A killed server seems to run until its parent has waited for it, which process 1 does not do everywhere.
  rm -f "$directory/postmaster.pid" "$directory"/.s.PGSQL.*.lock
  "${user[@]}" "${bin##* }/postgres" -D "$directory" -k "$directory" -c listen_addresses= "$@" >"$directory.log" 2>&1 3>&- 4>&- &
  PIDS+=("$!")
  DSN="dbi:Pg:dbname=postgres;host=$directory;user=gq"
  eventually psql -h "$directory" -U gq -d postgres -c 'SELECT 1'
  SERVER=$(head -n 1 "$directory/postmaster.pid")
}

# shellcheck disable=SC2034
start_mariadb() {
  local directory=$1 user=()
  shift
  ((EUID != 0)) || user=(--user=mysql)
  if [[ ! -e $directory/mysql ]]; then
    own_directory "$directory" mysql
    mariadb-install-db --no-defaults --datadir="$directory" --auth-root-authentication-method=normal --skip-test-db "${user[@]}" >/dev/null
  fi
  mariadbd --no-defaults --datadir="$directory" --socket="$directory/socket" --pid-file="$directory/pid" --skip-networking "${user[@]}" "$@" >"$directory.log" 2>&1 3>&- 4>&- &
  SERVER=$!
  PIDS+=("$SERVER")
  DSN="dbi:MariaDB:database=gq;mariadb_socket=$directory/socket root"
  eventually mariadb --no-defaults -u root -S "$directory/socket" -e 'CREATE DATABASE IF NOT EXISTS gq'
}

# Ends a server as a crash would: kill_server PID.
kill_server() {
  local children
  kill -STOP "$1"  # it makes no more children
  mapfile -t children < <(pgrep -P "$1")
  kill -9 "$1" "${children[@]}"
  eventually no_process "$1" "${children[@]}"
}
# True if none of these processes has a live thread. In a killed process the first thread may be a zombie while another thread still
# holds its files and their locks.
no_process() {
  local pid
  for pid in "$@"; do ! grep -q '^State:[[:space:]][^ZX]' "/proc/$pid"/task/*/status 2>/dev/null || return 1; done
}

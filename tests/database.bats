load helpers

# Creates a store in SQLite, named as users name it. Its copy is in $COPY.
sqlite_store() {
  rm -rf "$GQ_STORE"
  export GQ_CACHE=$T/cache
  in_database "gq-store-dbi dbi:SQLite:$T/db"
}
in_database() {
  export GQ_STORE="exec:$1"
  rm -rf "$GQ_CACHE"
  gq-enqueue none --local --delay 1d </dev/null >/dev/null
  gq-flush --drop "$(gq-inspect list --json | jq -r .id)"
  COPY=$(echo "$GQ_CACHE"/*)
}
rows() { sqlite3 "$T/db" "SELECT count(*) FROM gq WHERE k LIKE '$1%'"; }
conforms() { gq-store-test "$@" >"$T/conforms" || { cat "$T/conforms"; return 1; }; }
# Writes the script with which gq-store-test crashes a server and starts it again: crash start_SERVER DIR.
crash() {
  printf '#!/bin/bash\nset -e\nPIDS=()\n. "%s/../scripts/servers.bash"\nkill_server %s\n%s %s\n' "$BATS_TEST_DIRNAME" "$SERVER" "$1" "$2" >"$T/crash"
  # The next call has to kill another process.
  echo "sed -i \"s/^kill_server .*/kill_server \$SERVER/\" \"\$0\"" >>"$T/crash"
  chmod +x "$T/crash"
}
# Creates a directory for a server's data that the server's user can enter.
server_directory() { SERVERS=$(mktemp -d /tmp/gq-server.XXXXXX); chmod 755 "$SERVERS"; }
teardown() {
  end_programs
  [[ -z ${SERVERS:-} ]] || { pkill -9 -f "$SERVERS" || true; sleep 0.2; rm -rf "$SERVERS"; }
}

@test "gq-store-bdb, gq-store-files, gq-store-dbi: refuse files and directories that another user owns or others can write to" {
  ((EUID == 0)) || skip "needs root, for another user"
  local helper
  mkdir "$T/theirs" "$T/open" "$T/linked"
  chown 1 "$T/theirs"; chmod 0770 "$T/open"; ln -s "$T/made" "$T/linked/gq.lock"
  for helper in gq-store-bdb gq-store-files; do
    for directory in theirs open; do
      printf 'gq-store 1\n' | not "$helper" "$T/$directory" >"$T/said"
      grep -q "cannot use $T/$directory: it belongs to another user, or others can write to it" "$T/said"
      [[ -z $(ls -A "$T/$directory") ]]
    done
  done
  printf 'gq-store 1\n' | not gq-store-bdb "$T/linked" >"$T/said"
  grep -q "cannot open $T/linked/gq.lock" "$T/said"
  [[ ! -e $T/made ]]
  # SQLite reads a file with the name of its journal into the database, whoever created the file.
  refuses() { printf 'gq-store 1\n' | not gq-store-dbi "dbi:SQLite:$T/$1/q" >"$T/said" && grep -q "$2" "$T/said"; }
  chmod 1777 "$T/open"
  refuses open "all can write to the directory of $T/open/q"
  mkdir "$T/mine"
  touch "$T/mine/q-wal"
  chown 1 "$T/mine/q-wal"
  refuses mine "$T/mine/q-wal belongs to another user"
}

@test "gq-store-test: gq-store-dbi on SQLite, gq-store-bdb and gq-store-files keep a store as gq-store-helper(7) requires" {
  conforms --syncs 0 gq-store-dbi "dbi:SQLite:$T/test"
  conforms --syncs 0 gq-store-bdb "$T/bdb"
  conforms --syncs 0 gq-store-files "$T/files"
  for dsn in dbi:SQLite::memory: dbi:SQLite: "--table temp.gq dbi:SQLite:$T/test2"; do
    fails_with 75 gq-enqueue --store "exec:gq-store-dbi $dsn" f --local <<<x
    grep -q 'may lose what it has committed: .* is \(in no file\|temporary\)\|it is in no file' "$T/failed.err"
  done
  # It does not touch a database that is in use.
  gq-enqueue --store "exec:gq-store-bdb $T/used" f --local <<<x
  fails_with 65 gq-store-test gq-store-bdb "$T/used"
  [[ $(gq-inspect list --store "exec:gq-store-bdb $T/used" | wc -l) == 1 ]]
}

@test "gq-store-test: gq-store-dbi on PostgreSQL keeps a store, also if the server crashes; it refuses a server or table that may lose what it commits" {
  server_directory
  start_postgres "$SERVERS/pg"
  crash start_postgres "$SERVERS/pg"
  conforms --syncs "$SERVER" --crash "$T/crash" gq-store-dbi "$DSN"
  psql -qX -h "$SERVERS/pg" -U gq postgres -c 'ALTER SYSTEM SET synchronous_commit = off' -c 'SELECT pg_reload_conf()' >"$T/out"
  sleep 1
  fails_with 75 gq-enqueue --store "exec:gq-store-dbi $DSN" f --local <<<x
  grep -q 'may lose what it has committed: synchronous_commit is off' "$T/failed.err"
  gq-enqueue --store "exec:gq-store-dbi --table jobs --volatile $DSN" f --local <<<x 2>"$T/err"
  grep -q 'may lose what it has confirmed' "$T/err"
  psql -qX -h "$SERVERS/pg" -U gq postgres -c 'ALTER SYSTEM RESET synchronous_commit' -c 'SELECT pg_reload_conf()' \
    -c 'CREATE SCHEMA s; CREATE UNLOGGED TABLE s.q (k text COLLATE "C" PRIMARY KEY, v bytea NOT NULL); CREATE VIEW seen AS SELECT * FROM s.q' >"$T/out"
  refused() { fails_with 75 gq-enqueue --store "exec:gq-store-dbi --table $1 $DSN" f --local <<<x && grep -q "may lose what it has committed: $1 is not $2" "$T/failed.err"; }
  eventually refused s.q logged
  refused seen 'a table'
}

@test "gq-store-test: gq-store-dbi on MariaDB keeps a store, also if the server crashes; it refuses a server or table that may lose what it commits" {
  server_directory
  start_mariadb "$SERVERS/my"
  crash start_mariadb "$SERVERS/my"
  read -r -a dsn <<<"$DSN"
  conforms --syncs "$SERVER" --crash "$T/crash" gq-store-dbi "${dsn[@]}"
  # A password is in a file that only its owner can read.
  mariadb --no-defaults -u root -S "$SERVERS/my/socket" -e "CREATE USER other IDENTIFIED BY 'se cret'; GRANT ALL ON gq.* TO other"
  other() { GQ_CACHE=$T/cache gq-enqueue --store "exec:gq-store-dbi --table $1 ${DSN% root} other" f --local <<<x; }
  echo 'se cret' >"$T/password"
  chmod 600 "$T/password"
  other "a --password-file $T/password"
  DBI_PASS_FILE=$T/password other b
  fails_with 75 other b
  chmod 640 "$T/password"
  fails_with 75 other "a --password-file $T/password"
  grep -q 'others may read or write it (chmod 600 it)' "$T/failed.err"
  mkfifo -m 600 "$T/fifo"
  fails_with 75 other "c --password-file $T/fifo"
  grep -q 'it is not a file' "$T/failed.err"
  mariadb --no-defaults -u root -S "$SERVERS/my/socket" -e 'SET GLOBAL innodb_flush_log_at_trx_commit = 2'
  fails_with 75 gq-enqueue --store "exec:gq-store-dbi $DSN" f --local <<<x
  grep -q 'may lose what it has committed: innodb_flush_log_at_trx_commit is 2' "$T/failed.err"
  mariadb --no-defaults -u root -S "$SERVERS/my/socket" -e 'SET GLOBAL innodb_flush_log_at_trx_commit = 1;' \
    -e 'CREATE DATABASE other; CREATE TABLE other.gq (k VARBINARY(64) PRIMARY KEY, v LONGBLOB NOT NULL) ENGINE=Aria; CREATE VIEW gq.seen AS SELECT * FROM other.gq'
  for table in other.gq gq.seen seen; do
    fails_with 75 gq-enqueue --store "exec:gq-store-dbi --table $table $DSN" f --local <<<x
    grep -q "may lose what it has committed: the engine of $table is" "$T/failed.err"
  done
  gq-enqueue --store "exec:gq-store-dbi --table other.new $DSN" f --local <<<x
}

@test "gq-store-dbi: root may let the group of a service read a password file, as a key file" {
  ((EUID == 0)) || skip "needs root, for files of two users"
  server_directory
  cd "$SERVERS"
  mkdir -m 700 own
  chown 1 own
  cp "$BATS_TEST_DIRNAME/../scripts/gq-store-dbi" .
  echo secret >password
  chgrp 1 password
  says() { printf 'gq-store 1\n' | setpriv --reuid 1 --regid 1 --clear-groups ./gq-store-dbi --password-file password dbi:SQLite:own/db | grep -q "$1"; }
  chmod 440 password
  says '^gq-store 1'
  for mode in 444 460; do chmod $mode password; says 'others may read or write it'; done
  chown 1 password
  chmod 440 password
  says 'others may read or write it'
}

@test "gq-store-test: each of five broken helpers fails at its own fault, and a correct helper passes" {
  local broken=$BATS_TEST_DIRNAME/broken-helper
  conforms "$broken" none "$T/none"
  wrong() {
    local status=0
    gq-store-test "$broken" "$1" "$T/$1" >"$T/wrong" || status=$?
    [[ $status == 1 ]] && grep -q "^not ok  $2" "$T/wrong"
  }
  wrong early 'loses nothing when it is killed right after its answer'
  wrong forgetful 'loses nothing that it has answered when it is killed'
  wrong order 'scans keys in the order of their bytes'
  wrong nul 'keeps any bytes, .*: nul: 4 bytes were put'
  wrong delete 'deletes what it is told to'
}

@test "gq: with --store exec:, a job is in the database before its ID is printed, and runs from there" {
  sqlite_store
  gq-enqueue f --local <<<x >"$T/ids"
  [[ $(sqlite3 "$T/db" "SELECT count(*) FROM gq WHERE k LIKE 'r%' AND instr(v, CAST('$(cat "$T/ids")' AS BLOB)) > 0") == 1 ]]
  # Programs that the command runs are given the copy as their store, and reach the database through it.
  gq-flush -f f -- sh -c 'gq-enqueue g --local; [ -e "$GQ_STORE/database" ]' | grep -qx '[0-9A-Z]*'
  rm -rf "$GQ_CACHE"
  [[ $(gq-inspect list --json | jq -r .function) == g ]]
  gq-inspect check
}

@test "gq: others cannot read the files that it creates for a database or its copy; an existing file stays as it is, and is reported once" {
  umask 022
  mkdir "$T/made"
  export GQ_CACHE=$T/cache
  for words in "dbi dbi:SQLite:$T/made/db" "bdb $T/made"; do
    GQ_STORE="exec:gq-store-$words" gq-enqueue f --local <<<x 2>"$T/err"
    [[ $(GQ_STORE="exec:gq-store-$words" gq-flush -f f -- sh -c umask) == 0022 && ! -s $T/err ]]
  done
  [[ -z $(find "$T/made" "$T/cache" -type f -perm /077) ]]
  # A file counts as private if nobody else can enter its directory.
  mkdir "$T/open"
  mkdir -m 700 "$T/closed"
  for directory in open closed; do
    sqlite3 "$T/$directory/db" 'CREATE TABLE own (x)'
    GQ_STORE="exec:gq-store-dbi dbi:SQLite:$T/$directory/db" gq-enqueue f --local <<<x 2>>"$T/err"
    GQ_STORE="exec:gq-store-dbi dbi:SQLite:$T/$directory/db" gq-inspect stats 2>>"$T/err"
  done
  [[ $(grep -c "others can read files of the database that gq-store-dbi dbi:SQLite:$T/open/db keeps" "$T/err") == 1 && $(wc -l <"$T/err") == 1 ]]
  [[ $(stat -c %a "$T/open/db") == 644 ]]
  chmod 644 "$T"/made/log.*
  rm -rf "$T/cache"
  GQ_STORE="exec:gq-store-bdb $T/made" gq-enqueue f --local <<<x 2>"$T/err"
  grep -q "gq-store-bdb $T/made keeps; they are left as they are" "$T/err"
}

@test "gq-store-dbi, gq-store-bdb, gq-store-files: create and use nothing through another user's link [75]" {
  ((EUID == 0)) || skip "needs root, for a link of another user"
  export GQ_CACHE=$T/cache
  mkdir "$T/real"
  for words in "dbi dbi:SQLite:$T/link" "dbi dbi:SQLite:foreign_keys=1;dbname=$T/link" "bdb $T/link" "bdb $T/link/." "files $T/link/" "files $T/link//" "files $T/link/./"; do
    rm -rf "$T/link" "$GQ_CACHE"
    [[ $words == dbi* ]] && ln -s "$T/real/db" "$T/link" || ln -s "$T/real" "$T/link"
    chown -h 1 "$T/link"
    fails_with 75 gq-enqueue --store "exec:gq-store-$words" f --local <<<x
    grep -q "cannot .*: \(cannot use $T/link.*: it is a link of another user's\|$T/link belongs to another user\)" "$T/failed.err"
    [[ -z $(ls "$T/real") ]]
    chown -h 0 "$T/link"
    gq-enqueue --store "exec:gq-store-$words" f --local <<<x
    rm -rf "$T"/real/*
  done
}

@test "gq: rebuilds the copy of a database that is missing, damaged, or older than the machine's last boot [blobs too]" {
  sqlite_store
  head -c 3000000 /dev/urandom >"$T/large"
  local large small
  large=$(gq-enqueue f --local --delay 1h "$T/large")
  small=$(gq-enqueue f --local <<<small)
  same() {
    gq-inspect check
    gq-inspect cat "$large" | cmp - "$T/large"
    [[ $(gq-inspect cat "$small") == small && $(gq-inspect list | wc -l) == "$1" ]]
  }
  rm -rf "$GQ_CACHE"
  same 2
  # After a reboot nothing in the copy counts, not even a job that is only there.
  sed -i 's/^[^ ]*/another-boot/' "$COPY/mirror"
  : >"$(GQ_STORE=$COPY segment)"
  same 2
  gq-enqueue f --local <<<third
  # Damage in a file that all programs read is an error once.
  flip "$(GQ_STORE=$COPY segment)" 100
  rm "$COPY"/index*
  fails_with 75 gq-inspect list
  same 3
  # Damage in a workload is no error at all.
  flip "$COPY/blobs/${large: -2}/$large" 100
  gq-inspect cat "$large" | cmp - "$T/large"
  same 3
  gq-flush --drop "$large"
  [[ $(rows b) == 0 ]]
}

@test "gq-inspect: check compares the database with its copy, and names what the database has lost [1]" {
  sqlite_store
  head -c 3000000 /dev/urandom | gq-enqueue f --local >/dev/null
  seq 5 | gq-enqueue f --local -l >/dev/null
  gq-inspect check
  local keys
  mapfile -t keys < <(sqlite3 "$T/db" "SELECT k FROM gq WHERE k LIKE 'r%' ORDER BY k DESC LIMIT 3")
  sqlite3 "$T/db" "DELETE FROM gq WHERE k = '${keys[0]}'" "UPDATE gq SET v = zeroblob(50) WHERE k = '${keys[1]}'" \
    "UPDATE gq SET v = substr(v, 1, 1000) WHERE k LIKE 'b%1'"
  not gq-inspect check >"$T/failed.out"
  [[ $(grep -c "^database at $((10#${keys[0]:1})): .*does not have" "$T/failed.out") == 1 ]]
  [[ $(grep -c "^database at $((10#${keys[1]:1})): .*another record" "$T/failed.out") == 1 ]]
  [[ $(grep -c 'another piece' "$T/failed.out") == 1 && $(wc -l <"$T/failed.out") == 3 ]]
}

@test "gq: cleaning removes finished jobs from the database, too, and the remaining records stay the same" {
  sqlite_store
  settings '{"remember": "1s", "clean_after": "1s", "segment_size": "64K"}' "$COPY"
  seq 3000 | gq-enqueue f --local -l >/dev/null
  gq-enqueue f --local --delay 1d <<<late >/dev/null
  local before
  before=$(rows r)  # read now, because cleaning may begin soon
  gq-flush -f f -j 4 --stream -- sh -c 'while read -r l rest; do head -c "$l" >/dev/null; echo 0; done'
  seq 200 | gq-enqueue f --local -l >/dev/null
  cleaned() { gq-flush --clean; echo "$before records, then $(rows r)"; (($(rows r) < before)); }
  eventually cleaned
  (($(rows r) == $(gq-inspect journal | wc -l)))
  gq-inspect journal >"$T/before"
  gq-inspect check
  rm -rf "$GQ_CACHE"
  gq-inspect journal | cmp - "$T/before"
  [[ $(gq-inspect list | wc -l) == 201 ]]
  gq-inspect check
}

@test "gq: retries if a helper ends or reports a busy database, and no job is lost or run twice" {
  sqlite_store
  FAULT=none in_database "$BATS_TEST_DIRNAME/broken-helper flaky $T/db2"
  start_gearmand
  # A worker whose database is busy when it first writes there ends with 75. Whoever started it starts it again.
  start() { start_worker -f f -j 2 --backoff 50ms -- sh -c 'cat >>"$0"' "$T/ran"; }
  until start; do wait "$WORKER" || [[ $? == 75 ]]; done
  local n
  for n in $(seq 60); do
    until gq-enqueue f --id "$(printf '01HZZZZZZZZZZZZZZZZZZZZZ%02d' "$n")" <<<"$n" >/dev/null 2>>"$T/err"; do [[ $? == 75 ]]; done
  done
  ran_all() { [[ $(sort -n "$T/ran" | uniq | wc -l) == 60 ]]; }
  eventually ran_all
  [[ $(wc -l <"$T/ran") == 60 ]]
}

@test "gq-worker: refuses jobs for now while the database server is down [75]; when it is back the worker goes on, with all that it was sent" {
  server_directory
  start_postgres "$SERVERS/pg"
  export GQ_STORE="exec:gq-store-dbi $DSN" GQ_CACHE=$T/cache
  start_gearmand
  start_worker -f f -- sh -c 'cat >>"$0"' "$T/ran"
  gq-enqueue f <<<1 >/dev/null
  kill_server "$SERVER"
  fails_with 75 gq-enqueue f --timeout 20s <<<lost
  # From now on nothing is written to the copy that the database might never receive.
  local size
  size=$(cat "$T"/cache/*/journal/*.gqj | wc -c)
  fails_with 75 gq-enqueue f --timeout 20s <<<lost
  [[ $(cat "$T"/cache/*/journal/*.gqj | wc -c) == "$size" ]]
  start_postgres "$SERVERS/pg"
  queued() { gq-enqueue f --timeout 20s <<<2; }
  eventually queued
  ran() { grep -qx 1 "$T/ran" && grep -qx 2 "$T/ran"; }
  eventually ran
  [[ $(grep -c 'gq-worker: warning' "$T"/bg.*.err | cut -d: -f2 | sort -n | tail -n 1) -lt 20 ]]
}

@test "gq: a job that the database marks as done does not run again, even if its worker died right after" {
  server_directory
  start_postgres "$SERVERS/pg"
  export GQ_STORE="exec:gq-store-dbi dbi:Pg:" GQ_CACHE=$T/cache PGHOST=$SERVERS/pg PGUSER=gq PGDATABASE=postgres
  psql -qX -c 'CREATE TABLE sizes (job text, bytes bigint)'
  printf '#!/bin/sh\npostgresql-worker && kill -9 "$PPID"\n' >"$T/dies"
  chmod +x "$T/dies"
  seq 5 | gq-enqueue f --local -l >"$T/ids"
  # Each worker dies after the transaction has committed, before it has recorded anything.
  local n
  for n in 1 2 3 4 5; do gq-worker --local -f f --max-crashes 100 -- "$T/dies" 2>/dev/null || [[ $? == 137 ]]; done
  gq-flush -f f -- postgresql-worker
  [[ $(psql -qXAt -c 'SELECT count(*), count(DISTINCT job) FROM sizes') == '5|5' ]]
  no_jobs
  # And a command that fails after its transaction has committed.
  gq-enqueue f --local <<<x
  gq-flush -f f --backoff 100ms -- sh -c 'postgresql-worker; exit 1' 2>/dev/null
  sleep 0.3
  gq-flush -f f -- postgresql-worker
  [[ $(psql -qXAt -c 'SELECT count(*), count(DISTINCT job) FROM sizes') == '6|6' ]]
  no_jobs
  [[ $(psql -qXAt -c "SELECT count(*) FROM gq WHERE k LIKE 'e%'") == 0 ]]
}

@test "gq: a job that the database marks as done does not run again, even if the mark came while jobs were being claimed" {
  sqlite_store
  in_database "$BATS_TEST_DIRNAME/broken-helper late $T/db2"
  local id
  id=$(gq-enqueue f --local <<<x)
  die_at_work f
  LATE=$id gq-flush -f f -- touch "$T/ran"
  [[ ! -e $T/ran ]]
  no_jobs
}

@test "gq: obeys the file database in a directory that gq created, also an older gq, and in a confirmed one; nowhere else [78]" {
  sqlite_store
  id=$(echo x | gq-enqueue f --local)
  local copy=$COPY
  # Older programs left the file without the line for the directory.
  sed -i 1q "$copy/database"
  gq-inspect list --store "$copy" | grep -q "$id"
  # After one call with the name of the database, its directory can be used as a store from everywhere.
  gq-inspect stats
  GQ_CACHE=$T/other gq-inspect list --store "$copy" | grep -q "$id"
  # A copy of the directory, or a directory that was unpacked or written elsewhere, is not confirmed.
  cp -r "$copy" "$T/unpacked"
  printf '#!/bin/sh\ntouch %s/ran\n' "$T" >"$T/evil"; chmod +x "$T/evil"
  sed -i "1s|.*|exec:$T/evil|" "$T/unpacked/database"
  for call in "gq-inspect stats" "gq-flush -f f -- true" "gq-enqueue f --local" "gq-snapshot create $T/snaps" "gq-replicate init --as rep_1 --group rep_1"; do
    GQ_STORE=$T/unpacked fails_with 78 $call </dev/null
    grep -q "exec:$T/evil; .* gq-inspect --store $T/unpacked confirm" "$T/failed.err"
  done
  fails_with 78 gq-snapshot restore "$copy" --store "$T/unpacked"
  [[ ! -e $T/ran && ! -e $T/snaps ]]
  mkdir -m 700 "$T/chosen"
  fails_with 78 gq-inspect confirm --store "$T/chosen"
  echo "exec:gq-store-dbi dbi:SQLite:$T/db3" >"$T/chosen/database"
  fails_with 78 gq-inspect stats --store "$T/chosen"
  gq-inspect --store "$T/chosen" confirm
  [[ $(<"$T/chosen/database") == "exec:gq-store-dbi dbi:SQLite:$T/db3"$'\n'"$(stat -c 'directory %d %i %.9W' "$T/chosen")" ]]
  echo y | gq-enqueue --store "$T/chosen" f --local
  chmod 666 "$T/chosen/database"
  gq-inspect stats --store "$T/chosen"  # nobody else can enter the directory
  chmod 755 "$T/chosen"
  fails_with 78 gq-inspect stats --store "$T/chosen"
  grep -q 'others can write to it' "$T/failed.err"
  chmod 600 "$T/chosen/database"
  gq-inspect stats --store "$T/chosen"
  # The author of an archive can guess device and inode, so these two alone confirm nothing.
  cp "$T/chosen/database" "$T/said"
  sed -i '2s/ [0-9.]*$//' "$T/chosen/database"
  fails_with 78 gq-inspect stats --store "$T/chosen"
  grep -q 'confirm$' "$T/failed.err"
  mv "$T/said" "$T/chosen/database"
  # A link in its place is not obeyed, and the creation of a copy follows no link.
  mv "$T/chosen/database" "$T/database"; ln -s "$T/database" "$T/chosen/database"
  fails_with 78 gq-inspect stats --store "$T/chosen"
  mkdir -m 700 "$T/plain"; echo z | gq-enqueue --store "$T/plain" f --local
  mkdir "$T/shared"; ln -s "$T/plain" "$T/shared/$(basename "$copy")"
  GQ_CACHE=$T/shared fails_with 78 gq-inspect stats
  [[ ! -e $T/plain/database && ! -e $T/plain/mirror ]]
  ln -s "$T/unpacked" "$T/shared/$(GQ_CACHE=$T/evils gq-inspect --store "exec:$T/evil" stats >/dev/null 2>&1 || true; ls "$T/evils")"
  rm -f "$T/ran"; GQ_CACHE=$T/shared fails_with 78 gq-inspect stats --store "$T/unpacked"
  [[ ! -e $T/ran ]]
  rm "$copy/mirror"; ln -s "$T/new" "$copy/mirror"
  fails_with 78 gq-inspect stats
  [[ ! -e $T/new ]]
}

@test "gq: does not confirm a directory whose creation time is unknown [78], and obeys one that it created itself" {
  ((EUID == 0)) || skip "needs root, for such a file system"
  mkdir "$T/disk"; mount -t ramfs ramfs "$T/disk"
  local name="exec:gq-store-dbi dbi:SQLite:$T/db"
  mkdir -m 700 "$T/disk/store"
  for line in "$name" "$name"$'\n'"$(stat -c 'directory %d %i' "$T/disk/store")"; do
    echo "$line" >"$T/disk/store/database"
    fails_with 78 gq-inspect --store "$T/disk/store" confirm
    fails_with 78 gq-inspect --store "$T/disk/store" stats
    grep -q 'not confirmed' "$T/failed.err"
  done
  # The message shows the whole command line, however long it is.
  printf '%s%300s && evil\n' "$name" '' >"$T/disk/store/database"
  fails_with 78 gq-inspect --store "$T/disk/store" stats
  grep -q ' && evil; if' "$T/failed.err"
  export GQ_CACHE=$T/disk/cache
  fails_with 78 gq-inspect --store "$name" stats
  # Here the program was run, and the database was asked.
  fails_with 78 gq-inspect --store "$(echo "$GQ_CACHE"/*)" stats
  grep -q 'in the database: there is none' "$T/failed.err"
}

@test "gq: refuses a database that another machine holds [78] until its key holder is removed, and one that has disappeared" {
  sqlite_store
  gq-enqueue f --local <<<x
  sqlite3 "$T/db" "UPDATE gq SET v = 'elsewhere:/var/queue' WHERE k = 'holder'"
  fails_with 78 gq-inspect list
  grep -q 'held by elsewhere:/var/queue' "$T/failed.err"
  sqlite3 "$T/db" "DELETE FROM gq WHERE k = 'holder'"
  [[ $(gq-inspect list | wc -l) == 1 ]]
  mv "$T/db" "$T/db.away"
  fails_with 78 gq-enqueue f --local <<<y
  rm -f "$T"/db "$T"/db-*
  mv "$T/db.away" "$T/db"
  [[ $(gq-inspect list | wc -l) == 1 ]]
}

@test "gq: does not believe a copy that is older than its database, reuses no position, and keeps an unreadable gq.json out of the database" {
  sqlite_store
  gq-enqueue f --local <<<1 >/dev/null
  cp -a "$GQ_CACHE" "$T/old"
  gq-enqueue f --local <<<2 >/dev/null
  rm -rf "$GQ_CACHE"
  mv "$T/old" "$GQ_CACHE"
  gq-enqueue f --local <<<3 >/dev/null
  [[ $(gq-inspect list | wc -l) == 3 ]]
  # If the copy is rebuilt twice, the second one continues behind positions that the first may have sent to the database
  # unseen.
  position() { gq-inspect journal | tail -n 1 | jq -r .lsn; }
  rm -rf "$GQ_CACHE"
  gq-enqueue f --local <<<4 >/dev/null
  local first
  first=$(position)
  sqlite3 "$T/db" "DELETE FROM gq WHERE k = 'r$(printf %020d "$first")'"
  rm -rf "$GQ_CACHE"
  gq-enqueue f --local <<<5 >/dev/null
  (($(position) > first))
  [[ $(gq-inspect list | wc -l) == 4 ]]
  # A user's mistake in gq.json does not reach the database.
  cp "$COPY/gq.json" "$T/good"
  echo '{' >"$COPY/gq.json"
  fails_with 78 gq-inspect list
  [[ $(sqlite3 "$T/db" "SELECT v FROM gq WHERE k = 'settings'") == "$(<"$T/good")" ]]
  # If a program was killed while it created a store, the next program completes the store.
  rm -rf "$GQ_CACHE" "$T"/db*
  gq-inspect list 2>/dev/null || [[ $? == 78 ]]
  mkdir -p "$COPY"
  chmod 700 "$COPY"
  cp "$T/good" "$COPY/gq.json"
  gq-enqueue f --local <<<6 >/dev/null
  [[ $(gq-inspect list | wc -l) == 1 ]]
}

@test "gq: a helper inherits no descriptors except its three" {
  export GQ_CACHE=$T/cache
  printf '%s\n' '#!/bin/sh' 'for n in 3 4 7; do [ ! -e "/proc/$$/fd/$n" ] || echo "$n" >>"$0.fds"; done' \
    'touch "$0.ran"' 'exec gq-store-dbi "dbi:SQLite:$0.db"' >"$T/helper"
  chmod +x "$T/helper"
  in_database "$T/helper"
  gq-enqueue f --local <<<x 3</dev/null 7</dev/null
  [[ -e $T/helper.ran && ! -e $T/helper.fds ]]
}

@test "gq: a helper that is missing or speaks another protocol is an error in one line; exec: without a program is 64" {
  unset GQ_STORE
  export GQ_CACHE=$T/cache
  refused() {
    fails_with "$1" gq-enqueue --store "exec:$2" f --local <<<x
    [[ $(wc -l <"$T/failed.err") == 1 ]]
    grep -q "$3" "$T/failed.err"
  }
  refused 78 /nonexistent 'cannot start'
  refused 78 'echo hello' 'hello'
  refused 75 true 'it has ended'
  refused 64 '' 'exec:PROGRAM'
  fails_with 78 gq-snapshot restore "$T" --store 'exec:true'
}

@test "gq: ends a helper that answers more than it was asked for, and neither believes the answer nor keeps it in memory [pairs, bytes, another key, a second answer]" {
  unset GQ_STORE
  export GQ_CACHE=$T/cache
  local store="exec:$BATS_TEST_DIRNAME/broken-helper none $T/db"
  gq-enqueue --local --store "$store" f <<<x
  cut_off() {
    rm -rf "$T/cache"
    fails_with "$1" env FAULT="$2" bash -c 'ulimit -v 300000; exec gq-inspect --store "$0" list' "$store"
    grep -q "$3" "$T/failed.err"
    not pgrep -f "^[^ ]*python3 [^ ]*broken-helper none $T/db" >/dev/null
  }
  cut_off 75 twice 'it says more than was asked for'
  cut_off 75 pairs 'it says ok 2, which is no answer'
  cut_off 78 key 'it answers with another key'
  cut_off 75 large 'it answers with more than 32 MiB'
  [[ $(gq-inspect --store "$store" list | wc -l) == 1 ]]
  # A helper that never stops listing finished jobs does not block a worker.
  FAULT=ends bash -c 'ulimit -v 300000; exec timeout 60 gq-worker --local --drain --store "$0" -f f -- true' "$store"
  [[ $(gq-inspect --store "$store" list | wc -l) == 0 ]]
}

@test "lib/README.md: its worker with its own kind of store builds against the installed files, and runs jobs" {
  cmake --install "$GQ_BUILD" --prefix "$T/installed" >/dev/null
  sed -n '/^```cpp$/,/^```$/p' "$BATS_TEST_DIRNAME/../lib/README.md" | sed '/^```/d' >"$T/worker.cpp"
  (($(wc -l <"$T/worker.cpp") > 30 && $(wc -l <"$T/worker.cpp") < 60))
  export PKG_CONFIG_PATH
  PKG_CONFIG_PATH=$(dirname "$(find "$T/installed" -name gq.pc)")
  read -r -a flags < <(pkg-config --cflags --libs gq sqlite3 | xargs)
  g++ -std=c++20 -Wall -Werror -o "$T/worker" "$T/worker.cpp" "${flags[@]}"
  ldd "$T/worker" >"$T/linked"
  not grep -E 'libgearman|libtokyocabinet' "$T/linked"
  # The program may use either library itself.
  read -r -a flags < <(pkg-config --cflags --libs gearmand tokyocabinet gq sqlite3 | xargs)
  g++ -std=c++20 -Wall -Werror -o "$T/worker" "$T/worker.cpp" -Wl,--no-as-needed "${flags[@]}"
  start_gearmand
  background "$T/worker" "$T/own" "$T/own.db" "$GQ_SERVERS"
  eventually served "$PORT" shout.gq
  gq-enqueue shout <<<hello
  gq-enqueue shout <<<'and more'
  eventually lines_are "$T/bg.1.out" 2
  [[ $(<"$T/bg.1.out") == $'HELLO\nAND MORE' ]]
  kill -9 "$PID"
  [[ $(sqlite3 "$T/own.db" "SELECT count(*) FROM gq WHERE k LIKE 'r%'") -ge 4 ]]
}

@test "gq-worker: reports that it waits for a helper that does not answer, and SIGTERM ends it" {
  printf '#!/bin/sh\necho gq-store 1\nexec sleep 600\n' >"$T/hangs"
  chmod +x "$T/hangs"
  HOME=$T background gq-worker --store "exec:$T/hangs" --local -f f -- true
  said() { grep -q 'waiting: process [0-9]* (sleep) has not answered' "$T/bg.0.err"; }
  eventually said
  kill "$PID"
  ended() { not kill -0 "$PID" 2>/dev/null; }
  eventually ended  # this is sooner than the worker gives up by itself, after a minute
  got=0; wait "$PID" || got=$?
  [[ $got == 75 ]]
}

load helpers

browser() { command -v chromium-headless-shell || command -v chromium; }

# Opens a page in a browser: look FILE WIDTH PICTURE [OPTION...]. Prints what the browser's console says.
look() {
  local page=$1 width=$2 picture=$3
  shift 3
  HOME=$T timeout 120 "$(browser)" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$T/browser" \
    --enable-logging=stderr --window-size="$width,1500" --screenshot="$picture" "$@" "file://$page" 2>&1 | grep -i console || true
  [[ -s $picture ]]
}

# Makes a store with jobs in all sections of the page. $T/id is a dead job, whose function, name and reason look like
# HTML.
fill() {
  local attack='<script>alert(1)'
  printf bad | gq-enqueue "$attack" --name "$attack<img src=x onerror=alert(2)>" --local >"$T/id"
  gq-worker --local --drain -f "$attack" --max-attempts 1 -- sh -c 'echo "<script>alert(3)</script> \"&'"'"'" >&2; exit 7' 2>/dev/null
  seq 5 | gq-enqueue mail --local -l >/dev/null
  gq-worker --local --drain -f mail -- true
  seq 3 | gq-enqueue slow --local -l >/dev/null
  background gq-worker --local -f slow -- sleep 60
  running() { [[ $(jobs_in running) == 1 ]]; }
  eventually running
}

@test "gq-inspect: report is one page about functions, workers, dead jobs and the last day, without anything from elsewhere" {
  fill
  [[ -z $(gq-inspect report -o "$T/gq.html") ]]
  page=$(<"$T/gq.html")
  for text in '<h2>Functions</h2>' '<td data-title="Function">mail</td>' '<h2>Workers</h2>' 'slow <code>' \
    "<code>gq-flush --kick $(<"$T/id")</code>" 'exit 7' '<b>2</b><span>queued</span>' '<b>1</b><span>running</span>'; do
    [[ $page == *"$text"* ]] || { echo "no $text" >&2; return 1; }
  done
  # Charts: nine jobs came in, five were done, one attempt failed.
  total() { sed -n "s/.*class=\"$1\"\(.*\)/\1/p" "$T/gq.html" | grep -o '<title>[^<]*: [0-9]*' | sed 's/.*: //' | awk '{ n += $1 } END { print n }'; }
  [[ $(total in) == 9 && $(total "done") == 5 && $(total failed) == 1 ]]
  not grep -qiE '(src|href)="[^d]|url\(|@import|<script|javascript:' "$T/gq.html"
}

@test "gq-inspect: report escapes what comes from jobs, and shows reasons only with --reasons" {
  fill
  gq-inspect report >"$T/gq.html"
  grep -qF '&lt;script&gt;alert(1)&lt;img src=x onerror=alert(2)&gt;' "$T/gq.html"
  not grep -qE '<script|<img|alert\(3\)' "$T/gq.html"
  gq-inspect report --reasons >"$T/gq.html"
  grep -qF 'exit 7: &lt;script&gt;alert(3)&lt;/script&gt; &quot;&amp;&#39;' "$T/gq.html"
  not grep -qE '<script|<img' "$T/gq.html"
}

@test "gq-inspect: report lists the newest of many dead jobs, and not all of them" {
  seq 60 | gq-enqueue f --local -l >"$T/ids"
  gq-worker --local --drain -f f --max-attempts 1 -- false 2>/dev/null
  gq-inspect report >"$T/gq.html"
  grep -o 'gq-flush --kick [0-9A-Z]*' "$T/gq.html" | cut -d' ' -f3 | sort >"$T/listed"
  tail -n 25 "$T/ids" | sort | diff - "$T/listed"
}

@test "gq-inspect: report works with a store without jobs, and with the age of a job that nothing runs" {
  gq-enqueue f --local </dev/null
  gq-flush --all -- true
  gq-inspect report >"$T/gq.html"
  grep -q 'No job is dead' "$T/gq.html"
  grep -q 'No worker runs on this machine' "$T/gq.html"
  gq-enqueue g --local --at $(($(date +%s) - 7200)) </dev/null
  gq-inspect report >"$T/gq.html"
  grep -q '<b>2h</b><span>oldest waits for</span>' "$T/gq.html"
  (($(sed -n 's/.*class="age"//p' "$T/gq.html" | grep -o '<rect' | wc -l) >= 12))
}

@test "gq-inspect: report opens in a browser, light, dark and narrow, with nothing in its console" {
  [[ -n $(browser) ]] || skip "needs chromium"
  fill
  gq-inspect report --reasons -o "$T/gq.html"
  [[ -z $(look "$T/gq.html" 1100 "$T/light.png") ]]
  [[ -z $(look "$T/gq.html" 1100 "$T/dark.png" --blink-settings=preferredColorScheme=0) ]]
  [[ -z $(look "$T/gq.html" 380 "$T/narrow.png") ]]
  not cmp -s "$T/light.png" "$T/dark.png"
  # An attack that works is seen: so the console is.
  echo '<script>console.log("seen")</script>' >"$T/attack.html"
  [[ $(look "$T/attack.html" 380 "$T/attack.png") == *seen* ]]
}

@test "gq-inspect: the examples of its manual page for metrics and report work" {
  gq-enqueue f --local </dev/null
  sed -n 's/^\.Dl \([0-9*/]* \)\{5\}\(gq-inspect [mr].* -o .*\)/\2/p' "$BATS_TEST_DIRNAME/../man/gq-inspect.1" >"$T/examples"
  lines_are "$T/examples" 2
  sed -E "s,-o /.*/,-o $T/," "$T/examples" >"$T/here"
  bash -e "$T/here"
  promtool check metrics <"$T/gq.prom"
  grep -q '<h2>The last day</h2>' "$T/gq.html"
}

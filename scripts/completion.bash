# bash completion for gq-enqueue, gq-worker, gq-replicate, gq-flush, gq-inspect and gq-snapshot
_gq() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]##*/} word
  local common="--store --servers --config --quiet --verbose --help --version"
  local run="--function --jobs --max-attempts --max-crashes --backoff --time-limit --grace --on-exit --rate --stream --output --output-cap --output-keep --keep-output --joblog --tag"
  local peers="--auth --peer-timeout --takeover --alone-after"
  COMPREPLY=()
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -- ]] || continue
    [[ $program == gq-enqueue || $program == gq-snapshot ]] && word=-f || word=-cf
    mapfile -t COMPREPLY < <(compgen "$word" -- "$current")
    return
  done
  case $previous in
    --store | --config) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --answer) mapfile -t COMPREPLY < <(compgen -W "queued result" -- "$current"); return ;;
    --color) mapfile -t COMPREPLY < <(compgen -W "auto always never" -- "$current"); return ;;
    --state) mapfile -t COMPREPLY < <(compgen -W "queued running delayed waiting pending spooled held dead kept finished" -- "$current"); return ;;
  esac
  local words
  case $program in
    gq-enqueue) words="--lines --null --local --id --key --key-window --serial --name --priority --delay --at --expire --after --after-any --max-attempts --result --wait --json --from --range --timeout --spool --max-workload --owe --auth --peer-timeout" ;;
    gq-worker) words="$run $peers --owe --relay --copies --raw --answer --waiting --keep --local --queue-only --drain --strict --backlog --max-workload" ;;
    gq-replicate) words="$peers --to --hand-over --as --group --copies --run --renew init forget" ;;
    gq-flush) words="$run $peers --all --dry-run --kick --kick-dead --cancel --drop --keep --release --clean --forward --pause --resume --limit-of --rate-of --dead-letter-of" ;;
    gq-inspect) words="--json --color --state --function --since --until --reason --key --serial --grep --format --limit --records --range --follow --for --dead-over --oldest-over --queued-over --owed-over --no-worker --disk-under --nagios --output --reasons list show cat output log wait stats top status metrics report check journal confirm" ;;
    gq-snapshot) words="--json --function --state --keep-last --keep-hourly --keep-daily --keep-weekly --keep-monthly --keep-yearly --max-workload --owe --auth --peer-timeout create verify restore list prune export import" ;;
  esac
  [[ $program != gq-worker ]] || words+=" --then --then-lines --then-null"
  # After FUNCTION, gq-enqueue accepts no option that says whom to trust.
  local before=''
  [[ $program != gq-enqueue ]] || for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word != "=" ]] || continue
    [[ $word == -* || $before =~ ^--(id|key|key-window|serial|priority|delay|at|expire|after|max-attempts|from|range|timeout|max-workload|auth|peer-timeout|store|servers|config)$ ]] ||
      { words=${words/--auth/} common="--quiet --verbose --help --version"; }
    before=$word
  done
  mapfile -t COMPREPLY < <(compgen -W "$words $common" -- "$current")
  [[ ($program == gq-enqueue || $program == gq-snapshot) && $current != -* ]] && mapfile -t COMPREPLY < <(compgen -f -- "$current" | sed 's,^-,./-,')
}
complete -o filenames -F _gq gq-enqueue gq-worker gq-replicate gq-flush gq-inspect gq-snapshot

# Shared by the scripts of this folder: repository, progress, errors. To be sourced.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$repository/build
log=$build/setup.log
mkdir -p "$build"

# One sentence that says what to do, and the end.
die() {
    echo "nacre: $*" >&2
    exit 1
}

say() { printf '%-8s %s\n' "$1" "$2" >&2; }

# step WHAT COMMAND...: runs it with its output in the log, counting seconds where somebody watches.
step() {
    local what=$1 started=$SECONDS ticker='' status=0
    shift
    if [ -t 2 ]; then
        (while sleep 1; do printf '\r%-8s %s: %d s ' '...' "$what" $((SECONDS - started)) >&2; done) &
        ticker=$!
    else
        say '...' "$what"
    fi
    echo "== $what: $*" >> "$log"
    "$@" >> "$log" 2>&1 < /dev/null || status=$?
    if [ -n "$ticker" ]; then
        kill "$ticker" 2>/dev/null
        wait "$ticker" 2>/dev/null || true
        printf '\r\033[K' >&2
    fi
    if [ $status -ne 0 ]; then
        tail -n 15 "$log" >&2
        return $status
    fi
    say ok "$what ($((SECONDS - started)) s)"
}

# Whether FILE records exactly this text: how a finished step is known again.
is_stamped() { [ -e "$1" ] && [ "$(cat "$1")" = "$2" ]; }

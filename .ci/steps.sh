# What `.ci/run` and `.ci/long` share; sourced by them. Steps run in a clean clone of the committed state, each with a log
# of its own in $logs, which outlives the run; `report.py` reads $logs/steps.tsv and pytest's junit files there.
set -euo pipefail

top=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
commit=$(git -C "$top" rev-parse HEAD)
logs=${CI_LOGS:-$(mktemp -d "${TMPDIR:-/tmp}/recserv-ci-logs.XXXXXX")}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/recserv-ci.XXXXXX")
checkout=$scratch/checkout
venv=$checkout/.venv/bin
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$logs"
: >"$logs/steps.tsv"
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME

say() { printf '\n== %s\n' "$*"; }

clean_clone() {
  say "clean clone of $(git -C "$top" log -1 --format='%h %s'); logs in $logs"
  local dirty
  dirty=$(git -C "$top" status --porcelain)
  [ -z "$dirty" ] || printf 'not committed, so not tested:\n%s\n' "$dirty"
  git clone --quiet "file://$top" "$checkout"
  git -C "$checkout" checkout --quiet --detach "$commit"
  [ ! -d "$top/../shared" ] || ln -s "$(realpath "$top/../shared")" "$scratch/shared"
}

# step NAME COMMAND...: runs it in the clone without standard input, keeps what it prints, notes how it ended. Whatever
# pytest it starts leaves NAME.xml. A step that fails does not hide the ones after it.
step() {
  local name=$1 began=$SECONDS status=0
  shift
  say "$name: $*"
  (cd "$checkout" && PYTEST_ADDOPTS="-ra --durations=10 --junitxml=$logs/$name.xml" "$@") </dev/null 2>&1 |
    tee "$logs/$name.log" || status=$?
  printf '%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - began))" >>"$logs/steps.tsv"
  say "$name: exit status $status, $((SECONDS - began)) s"
  return 0
}

# The command line in the README's fenced block number $1 (from 1); an absent one fails, it does not pass unseen.
readme_command() {
  awk -v wanted="$1" '
    /^```/ { fence++; next }
    fence == 2 * wanted - 1 { print; found = 1 }
    END { if (!found) print "echo \"the README has no command number " wanted "\" && exit 1" }
  ' "$checkout/README.md"
}

# readme_install NAME NUMBER: what the README's command does before its last `&&`: it installs. A registry that stumbles
# may spoil that, so it is run a second time if it fails.
readme_install() {
  local command
  command=$(readme_command "$2")
  step "$1" bash -c "${command% && *} || { sleep 10; ${command% && *}; }"
}

# readme_step NAME NUMBER: the README's command as it is printed, in its two parts.
readme_step() {
  local command
  command=$(readme_command "$2")
  readme_install "$1-install" "$2"
  step "$1" bash -c "${command##* && }"
}

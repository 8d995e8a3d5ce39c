# shellcheck shell=bash
# Sourced by scripts/check and scripts/test, in the root of the project: how a command is
# run, shown and counted.

logs=target/test-logs
mkdir -p "$logs"
rm -f "$logs"/*.log
failed=()
# Where nobody could press Ctrl-C, a step that hangs ends by itself, and is named.
limit=()
if [ -n "${CI:-}" ]; then limit=(timeout 40m); fi

# Drops what makes a log long and says nothing: passed tests and compiled crates.
quietly() {
  grep --line-buffered -vE '^test .* (ok|ignored)$|^ +(Compiling|Checking|Downloading|Downloaded|Documenting|Locking|Blocking|Updating|Adding|Fresh) |^$|^running [0-9]+ tests?$' || true
}

# step NAME COMMAND…: runs it, shows what matters, keeps all of it, notes a failure and goes on.
step() {
  local name=$1 started=$SECONDS
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  if ! "${limit[@]}" "$@" 2>&1 </dev/null | tee "$logs/$name.log" | quietly; then
    printf '== %s FAILED after %s s; all of its output: %s\n' "$name" "$((SECONDS - started))" "$logs/$name.log"
    failed+=("$name")
    return
  fi
  printf '== %s: done in %s s\n' "$name" "$((SECONDS - started))"
}

# Format, lints, documentation, scripts.
check_steps() {
  step format cargo fmt --check
  step lints cargo clippy --locked --all-targets --features faults -- -D warnings
  step docs env RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --no-deps --document-private-items
  step scripts shellcheck -x scripts/* .ci/run .quire/links
}

# The sum over all `test result:` lines, as "N passed, N failed, N ignored".
counts() {
  cat "$logs"/*.log | awk '/^test result:/ { p += $4; f += $6; i += $8 } END { printf "%d passed, %d failed, %d ignored", p, f, i }'
}

# finish SKIPPED: the last lines, and the exit code.
finish() {
  local skipped=$1
  printf '\n%s in %s s\n' "$(counts)" "$SECONDS"
  if [ "${#failed[@]}" -gt 0 ]; then
    printf '%s: FAILED: %s; skipped: %s\n' "${0##*/}" "${failed[*]}" "${skipped:-nothing}"
    exit 1
  fi
  printf '%s: all passed; skipped: %s\n' "${0##*/}" "${skipped:-nothing}"
}

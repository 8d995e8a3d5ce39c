# shellcheck shell=bash
# Sourced by scripts/check and scripts/test, in the root of the project: how a command is
# run, shown and counted.

logs=target/test-logs
mkdir -p "$logs"
rm -f "$logs"/*.log
failed=()
# A step that hangs ends after this time, and is named as failed.
step_limit=${QUIRE_STEP_LIMIT:-40m}
trap 'exit 130' INT

# How tests are run. cargo-nextest, where it is installed, ends each test that hangs
# (.config/nextest.toml); with cargo test only the step as a whole has a limit. All steps select the whole workspace with
# the same features, since another selection compiles most of it again. `faults` compiles in the fault points, which do
# nothing until a test names one.
selection=(--locked --workspace --features faults)
# shellcheck disable=SC2034  # used by scripts/test
if cargo nextest --version >/dev/null 2>&1; then
  run_tests=(cargo nextest run "${selection[@]}")
else
  run_tests=(cargo test "${selection[@]}")
fi

# Drops what makes a log long and says nothing: passed tests and compiled crates.
quietly() {
  grep --line-buffered -vE '^test .* (ok|ignored)$|^ +(PASS|Starting|Nextest run ID) |^─+$|^ +(Compiling|Checking|Downloading|Downloaded|Documenting|Locking|Blocking|Updating|Adding|Fresh) |^$|^running [0-9]+ tests?$' || true
}

# Runs a command for at most the limit. `timeout` leaves the terminal's process group, so Ctrl-C is
# passed on to it; and bash lets a job in the background ignore Ctrl-C, which tests must not inherit.
bounded() {
  timeout --kill-after=30s "$step_limit" env --default-signal=INT,QUIT "$@" &
  local job=$!
  # shellcheck disable=SC2064  # the job of now
  trap "kill $job" INT TERM
  wait "$job"
}

# step NAME COMMAND…: runs it, shows what matters, keeps all of it, notes a failure and goes on.
step() {
  local name=$1 started=$SECONDS
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  if ! bounded "$@" 2>&1 </dev/null | tee "$logs/$name.log" | quietly; then
    printf '== %s FAILED after %s s; all of its output: %s\n' "$name" "$((SECONDS - started))" "$logs/$name.log"
    failed+=("$name")
    return
  fi
  printf '== %s: done in %s s\n' "$name" "$((SECONDS - started))"
}

# start_step NAME COMMAND…: runs a step in the background.
declare -A background=()
start_step() {
  local name=$1
  shift
  printf '\n== %s: started in the background: %s\n' "$name" "$*"
  timeout --kill-after=30s "$step_limit" env --default-signal=INT,QUIT "$@" >"$logs/$name.log" 2>&1 </dev/null &
  background[$name]=$!
}
trap 'for job in "${background[@]}"; do kill "$job" 2>/dev/null || true; done' EXIT

# finish_step NAME: waits for a step that was started in the background, and notes a failure.
finish_step() {
  local name=$1 waited=$SECONDS job=${background[$1]}
  unset "background[$name]"
  if wait "$job"; then
    printf '\n== %s: done, after %s s of waiting for it\n' "$name" "$((SECONDS - waited))"
  else
    quietly <"$logs/$name.log" | tail -n 40
    printf '== %s FAILED; all of its output: %s\n' "$name" "$logs/$name.log"
    failed+=("$name")
  fi
}

# Clippy compiles the crates of the workspace, so they are linted and compiled at once. With `cargo clippy` all of them, and
# all their dependencies, would be checked once more. The findings are warnings of the compilation, which Cargo repeats for what is compiled already.
export RUSTC_WORKSPACE_WRAPPER=clippy-driver

# Format, scripts, lints. Everything is compiled at once, which uses the cores better than one tier after the other.
check_steps() {
  step format cargo fmt --all --check
  step scripts shellcheck -x scripts/* image/sysroot image/third-party-licences .ci/run .quire/links
  step compile cargo build "${selection[@]}" --all-targets
  # shellcheck disable=SC2016  # expanded by the bash that runs it
  step lints bash -c '! grep -A 12 "^warning" "$1"' lints "$logs/compile.log"
}

# Examples in the documentation, and its links.
documentation_steps() {
  step docs env RUSTDOC="$PWD/scripts/rustdoc-links" cargo test "${selection[@]}" --doc
}

# Findings of rustfmt and clippy differ between versions, so checks and tests run with the version
# that Cargo.toml names. An installed toolchain of that version is preferred to the default one;
# nothing is downloaded. docs/decisions/ says why there is no rust-toolchain.toml.
choose_toolchain() {
  local pinned default installed
  pinned=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  default=$(rustc --version | cut -d' ' -f2)
  case $default in "$pinned" | "$pinned".*) return 0 ;; esac
  installed=$(rustup toolchain list 2>/dev/null | grep -oE -m 1 "^$pinned(\.[0-9]+)?-[^ ]+") || true
  if [ -n "$installed" ]; then
    export RUSTUP_TOOLCHAIN=$installed
  else
    printf '%s: this is Rust %s; formatting and lints are those of Rust %s (rustup toolchain install %s)\n' "${0##*/}" "$default" "$pinned" "$pinned" >&2
  fi
}

# The sum over the closing lines of cargo test and nextest, as "N passed, N failed, N ignored".
# nextest's "skipped" are mostly tests that a filter left out, so they are not counted.
counts() {
  cat "$logs"/*.log | sed 's/\x1b\[[0-9;]*m//g' | awk '
    /^test result:/ { passed += $4; failed += $6; ignored += $8 }
    /^ +Summary \[/ {
      for (i = 2; i <= NF; i++) {
        if ($i ~ /^passed/) passed += $(i - 1)
        else if ($i ~ /^failed/ || $i ~ /^exec/ || ($i == "timed" && $(i + 1) ~ /^out/)) failed += $(i - 1)
      }
    }
    END { printf "%d passed, %d failed, %d ignored", passed, failed, ignored }'
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

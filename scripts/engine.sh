# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts: finding and starting a Docker engine, a client
# that can build with BuildKit, and a Compose. Prints only through `say` and `fail`.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() { say "$@"; exit 1; }

# Runs a command as root: directly, or through sudo where there is one.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "this needs root: $*"
  fi
}

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Why the engine does not answer: absent, denied or stopped.
engine_problem() {
  if ! command -v docker >/dev/null; then
    echo absent
  elif docker version 2>&1 | grep -qi 'permission denied'; then
    echo denied
  elif command -v dockerd >/dev/null || [ -x /usr/sbin/dockerd ]; then
    echo stopped
  else
    echo absent
  fi
}

# Starts an engine that is installed but does not run, and waits until it answers.
engine_start() {
  engine_answers && return 0
  say "the Docker engine is installed but does not run; starting it"
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker || true
  else
    # A daemon of its own session, so that it outlives this script.
    # shellcheck disable=SC2016  # the inner shell's PATH
    as_root sh -c 'PATH=$PATH:/usr/sbin:/sbin setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &'
  fi
  local _
  for _ in $(seq 120); do
    engine_answers && return 0
    sleep 0.5
  done
  docker version >&2 || true
  fail "the Docker engine did not answer within 60 s; its log is /var/log/dockerd.log or 'journalctl -u docker'"
}

# Sets `builder`, the start of a command that builds with BuildKit. A client
# before 23 has it inside; a newer one needs its buildx part; where a newer one
# without it comes first in PATH, the system's own client may still do.
find_builder() {
  local client version
  for client in docker /usr/bin/docker; do
    command -v "$client" >/dev/null || continue
    version=$("$client" version --format '{{.Client.Version}}' 2>/dev/null) || continue
    if "$client" buildx version >/dev/null 2>&1 || [ "${version%%.*}" -lt 23 ]; then
      builder=(env DOCKER_BUILDKIT=1 "$client" build)
      builder_folder=$(dirname "$(command -v "$client")")
      return 0
    fi
  done
  fail "no Docker client here can build with BuildKit; install its buildx part (Debian: docker-buildx; Docker's own packages: docker-buildx-plugin)"
}

# Sets `compose`: Compose v2, which builds with BuildKit by itself, else docker-compose 1.29 or newer, made to.
find_compose() {
  if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
  elif command -v docker-compose >/dev/null; then
    find_builder
    compose=(env COMPOSE_DOCKER_CLI_BUILD=1 DOCKER_BUILDKIT=1 "PATH=$builder_folder:$PATH" docker-compose)
  else
    return 1
  fi
}

# The default of an ARG of the Dockerfile, unless the environment gives another.
image_argument() { printf '%s\n' "${!1:-$(sed -n "s/^ARG $1=//p" "$root/image/Dockerfile")}"; }

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# The commit the sources are at, for `quire --version`; nothing outside a repository.
source_commit() {
  local commit
  commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null) || return 0
  [ -z "$(git -C "$root" status --porcelain 2>/dev/null)" ] || commit=$commit-modified
  printf '%s\n' "$commit"
}

# Removes what a newer build of the image has left without a name; nothing of anybody else's.
remove_old_images() { docker image prune --force --filter label=org.opencontainers.image.title=quire >/dev/null; }

# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts: finds and starts a Docker engine, a client that
# can build with BuildKit, and Docker Compose. Prints only through `say` and `fail`.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() { say "$@"; exit 1; }

# Runs a command as root: directly, or with sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "run this as root, because sudo is not installed: $*"
  fi
}

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Prints why the engine does not respond: absent, denied or stopped.
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

# Starts an engine that is installed but not running, and waits until it responds.
engine_start() {
  engine_answers && return 0
  say "the Docker engine is installed but not running; starting it"
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker || true
  else
    # In a session of its own, so that it outlives this script.
    # shellcheck disable=SC2016  # PATH is expanded by the inner shell
    as_root sh -c 'PATH=$PATH:/usr/sbin:/sbin setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &'
  fi
  local _
  for _ in $(seq 120); do
    engine_answers && return 0
    sleep 0.5
  done
  docker version >&2 || true
  fail "the Docker engine did not respond within 60 s; see /var/log/dockerd.log or 'journalctl -u docker'"
}

# Sets `builder`, the beginning of a command that builds with BuildKit. A client
# before version 23 contains it; a newer one needs the buildx plugin. If a newer
# one without the plugin is first in PATH, /usr/bin/docker is tried as well.
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
  fail "the Docker client cannot build with BuildKit; install the buildx plugin (Debian: docker-buildx; packages of Docker: docker-buildx-plugin)"
}

# Sets `compose`: Compose v2, or docker-compose 1.29 or newer, which has to be told to use BuildKit.
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

# The value of an ARG of the Dockerfile: from the environment, else its default.
image_argument() { printf '%s\n' "${!1:-$(sed -n "s/^ARG $1=//p" "$root/image/Dockerfile")}"; }

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# Prints the commit of the sources for `quire --version`; nothing outside of a repository.
source_commit() {
  local commit
  commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null) || return 0
  [ -z "$(git -C "$root" status --porcelain 2>/dev/null)" ] || commit=$commit-modified
  printf '%s\n' "$commit"
}

# Removes images of quire that lost their name to a newer build, and no others.
remove_old_images() { docker image prune --force --filter label=org.opencontainers.image.title=quire >/dev/null; }

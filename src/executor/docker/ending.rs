//! Ending one command's processes within a container.
//!
//! The engine's API cannot end an exec, and the process ids it tells are the host's. So a second
//! exec runs a small shell script that looks through /proc with nothing but the shell's own
//! means. It finds what [`crate::proc::Family`] finds: processes with the command's mark in their
//! environment, of the same session as one of those, or descended from one; and, when no other
//! command ran meanwhile, orphans that started after the command. It stops them, looks again
//! until it finds no new one, and kills them.
//!
//! Where that cannot work (an image without a shell, no process to be had because the limit is
//! reached, a shell that was replaced by the run) the whole container is killed: a command that
//! has been ended must not go on, whatever that costs the run.

use std::time::Duration;

use super::aside;
use crate::docker::{DockerError, Engine};

/// How long the script may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// `$1` is the mark, `$2` is `alone` when no other command ran since this one started.
///
/// Exit code 0 says that nothing of the command lives any more.
const SCRIPT: &str = r#"
mark=$1 alone=$2 me=$$ first=
marked() {
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *"$mark"*) return 0;; esac
  done <"/proc/$1/environ"
  return 1
}
look() {
  found= sessions= table= all=
  for dir in /proc/[0-9]*; do
    pid=${dir#/proc/} text=
    [ "$pid" = "$me" ] || [ "$pid" = 1 ] && continue
    while IFS= read -r line || [ -n "$line" ]; do text="$text $line"; done <"$dir/stat" || continue
    rest=${text##*) }
    case $rest in Z*|X*|"$text") continue;; esac
    all="$all $pid"
    set -f; set -- $rest; set +f
    eval "parent_$pid=\$2 session_$pid=\$4 start_$pid=\${20}"
    if marked "$pid"; then
      found="$found $pid " sessions="$sessions $4 "
      [ -z "$first" ] || [ "${20}" -lt "$first" ] && first=${20}
    fi
  done 2>/dev/null
  more=1
  while [ -n "$more" ]; do
    more=
    for pid in $all; do
      case $found in *" $pid "*) continue;; esac
      eval "parent=\$parent_$pid session=\$session_$pid start=\$start_$pid"
      join=
      case $found in *" $parent "*) join=1;; esac
      case $sessions in *" $session "*) join=1;; esac
      [ "$alone" = alone ] && [ -n "$first" ] && [ "$parent" = 1 ] && [ "$start" -ge "$first" ] && join=1
      [ "$session" = "$me" ] && join=
      if [ -n "$join" ]; then
        found="$found $pid " sessions="$sessions $session " more=1
      fi
    done
  done
}
tries=0
while [ "$tries" -lt 200 ]; do
  stopped=
  while :; do
    look
    new=
    for pid in $found; do
      case $stopped in *" $pid "*) ;; *) new="$new $pid"; stopped="$stopped $pid ";; esac
    done
    [ -z "$new" ] && break
    kill -STOP $new 2>/dev/null
  done
  [ -z "$found" ] && exit 0
  kill -KILL $found 2>/dev/null
  tries=$((tries + 1))
done
exit 1
"#;

/// How a command was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Command,
    /// With the whole container.
    Container,
}

/// Ends everything that the command with this mark started; returns when it is gone.
pub(super) async fn end(
    engine: &Engine,
    container: &str,
    user: Option<&str>,
    mark: &str,
    alone: bool,
) -> Result<Ended, DockerError> {
    match tokio::time::timeout(PATIENCE, by_script(engine, container, user, mark, alone)).await {
        Ok(Ok(true)) => return Ok(Ended::Command),
        Ok(Err(error)) if error.is_unavailable() => return Err(error),
        _ => {}
    }
    engine.kill_container(container).await?;
    Ok(Ended::Container)
}

/// Ends everything with this mark, and nothing else whatever happens.
pub(super) async fn marked(
    engine: &Engine,
    container: &str,
    mark: &str,
) -> Result<(), DockerError> {
    let _ = tokio::time::timeout(PATIENCE, by_script(engine, container, None, mark, false))
        .await
        .unwrap_or(Ok(false))?;
    Ok(())
}

async fn by_script(
    engine: &Engine,
    container: &str,
    user: Option<&str>,
    mark: &str,
    alone: bool,
) -> Result<bool, DockerError> {
    let alone = if alone { "alone" } else { "" };
    let (code, _) = aside::run(
        engine,
        container,
        user,
        &["/bin/sh", "-c", SCRIPT, "quire-end", mark, alone],
    )
    .await?;
    Ok(code == Some(0))
}

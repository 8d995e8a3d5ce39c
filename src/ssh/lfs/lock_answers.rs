//! Answers about the locks of `git lfs lock`.

use quire_git::lfs::{LfsLock, LfsLocks, LockError};
use quire_types::clock::Clock;

use super::answer::{LfsAnswer, Refusal};
use super::request::LockQuery;

/// How many locks one answer holds at most; the client asks for the next ones.
const MAX_LISTED: usize = 1000;

/// Locks a file.
pub(super) fn lock(locks: &LfsLocks, path: &str, owner: &str) -> LfsAnswer {
    let (status, lock, message) = match locks.lock(path, owner, Clock::system().now()) {
        Ok(lock) => (201, Some(lock), None),
        Err(LockError::Conflict(lock)) => {
            let message = format!("{} has locked this file already", lock.owner);
            (409, Some(lock), Some(message))
        }
        Err(error) => {
            let Refusal { status, message } = error.into();
            (status, None, Some(message))
        }
    };
    let mut answer = LfsAnswer::new(status);
    answer.arguments = lock.iter().flat_map(arguments).collect();
    answer.lines.extend(message);
    answer
}

/// The answer about a lock that was removed.
pub(super) fn unlocked(lock: &LfsLock) -> LfsAnswer {
    let mut answer = LfsAnswer::new(200);
    answer.arguments = arguments(lock).into();
    answer
}

fn arguments(lock: &LfsLock) -> [String; 4] {
    [
        format!("id={}", lock.id),
        format!("path={}", lock.path),
        format!("locked-at={}", lock.locked_at),
        format!("ownername={}", lock.owner),
    ]
}

/// The locks that a query asks for.
pub(super) fn list(locks: Vec<LfsLock>, query: &LockQuery, owner: &str) -> LfsAnswer {
    let is_wanted = |lock: &LfsLock| {
        query.path.as_ref().is_none_or(|path| *path == lock.path)
            && query.id.as_ref().is_none_or(|id| *id == lock.id)
    };
    let limit = query
        .limit
        .map_or(MAX_LISTED, |limit| limit.clamp(1, MAX_LISTED));
    let mut found = locks.into_iter().filter(is_wanted).skip(query.cursor);
    let mut answer = LfsAnswer::new(200);
    for lock in found.by_ref().take(limit) {
        let id = &lock.id;
        let who = if lock.owner == owner {
            "ours"
        } else {
            "theirs"
        };
        answer.lines.extend([
            format!("lock {id}"),
            format!("path {id} {}", lock.path),
            format!("locked-at {id} {}", lock.locked_at),
            format!("ownername {id} {}", lock.owner),
            format!("owner {id} {who}"),
        ]);
    }
    if found.next().is_some() {
        let next = query.cursor.saturating_add(limit);
        answer.arguments.push(format!("next-cursor={next}"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks() -> Vec<LfsLock> {
        let lock = |id: &str, path: &str, owner: &str| LfsLock {
            id: id.to_owned(),
            path: path.to_owned(),
            owner: owner.to_owned(),
            locked_at: "1970-01-01T00:00:00.000Z".to_owned(),
        };
        vec![
            lock("1", "a b.psd", "laptop"),
            lock("2", "c.psd", "desktop"),
        ]
    }

    #[test]
    fn a_list_says_whose_each_lock_is_and_where_the_next_begins() {
        let query = |cursor, limit| LockQuery {
            cursor,
            limit,
            ..LockQuery::default()
        };
        let all = list(locks(), &query(0, None), "laptop");
        insta::assert_snapshot!(all.lines.join("\n"), @r"
        lock 1
        path 1 a b.psd
        locked-at 1 1970-01-01T00:00:00.000Z
        ownername 1 laptop
        owner 1 ours
        lock 2
        path 2 c.psd
        locked-at 2 1970-01-01T00:00:00.000Z
        ownername 2 desktop
        owner 2 theirs
        ");
        assert!(all.arguments.is_empty());
        let first = list(locks(), &query(0, Some(1)), "laptop");
        assert_eq!(first.arguments, ["next-cursor=1"]);
        assert_eq!(first.lines[..], all.lines[..5]);
        let second = list(locks(), &query(1, Some(1)), "laptop");
        assert_eq!(second.lines[..], all.lines[5..]);
        assert!(second.arguments.is_empty());
        let far = list(locks(), &query(usize::MAX, Some(1)), "laptop");
        assert!(far.lines.is_empty() && far.arguments.is_empty());
    }
}

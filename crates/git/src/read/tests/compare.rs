//! Commits of one side only, and common ancestors.

use super::super::*;
use super::odd_repository::*;

#[test]
fn two_commits_are_compared_as_git_compares_them() {
    let mut odd = odd();
    git(odd.path(), &["checkout", "--quiet", "--orphan", "apart"]);
    odd.commit("Apart");
    let all = log(odd.path(), &["--all"]);
    let reader = Reader::open(&odd.git_dir()).unwrap();
    for (at, first) in all.iter().enumerate() {
        for second in all.iter().skip(at % 3).step_by(3) {
            let found = reader
                .compare(&id(first), &id(second), &budget(1000))
                .unwrap();
            let mut ours: Vec<String> = found.commits.iter().map(|c| c.id.to_string()).collect();
            let mut theirs = log(odd.path(), &[&format!("{first}..{second}")]);
            ours.sort();
            theirs.sort();
            assert_eq!(
                (ours, found.total),
                (theirs.clone(), theirs.len()),
                "{first} {second}"
            );
            let forward = log(odd.path(), &[&format!("{second}..{first}")]).is_empty();
            let is_ancestor = reader.is_ancestor(&id(first), &id(second), &budget(1000));
            assert_eq!(is_ancestor.unwrap(), Some(forward), "{first} {second}");
            let range = format!("{first}...{second}");
            let bases = text(odd.path(), &["rev-parse", &range]);
            let bases: Vec<&str> = bases.lines().filter_map(|l| l.strip_prefix('^')).collect();
            match found.base {
                Some(base) => assert!(bases.contains(&base.as_str()), "{range}"),
                None => assert!(bases.is_empty(), "{range}"),
            }
        }
    }
    let few = reader
        .compare(&id(all.last().unwrap()), &id(&all[1]), &budget(2))
        .unwrap();
    assert!(few.commits.len() == 2 && few.total > 2);
}

#[test]
fn a_merge_is_compared_with_each_parent() {
    let odd = odd();
    let merge = text(odd.path(), &["log", "-1", "--merges", "--format=%H %P"]);
    let ids: Vec<&str> = merge.split_whitespace().collect();
    let reader = Reader::open(&odd.git_dir()).unwrap();
    for parent in 0..ids.len() {
        let options = DiffOptions {
            max_files: 100,
            max_lines: 100,
            parent,
            ..DiffOptions::default()
        };
        let diff = reader.commit_diff(&id(ids[0]), &options, &budget(1000));
        let Some(old) = ids.get(parent + 1) else {
            assert!(matches!(diff, Err(ReadError::NoPath)));
            continue;
        };
        let names = text(odd.path(), &["diff", "--name-only", "-M", old, ids[0]]);
        assert_eq!(diff.unwrap().total, names.lines().count());
    }
}

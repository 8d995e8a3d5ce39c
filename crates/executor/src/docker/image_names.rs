//! The names of the images that quire builds.

use quire_types::names::RepoName;
use quire_types::token::hex;
use sha2::{Digest, Sha256};

/// Returns a name that Docker accepts, with a tag that different contents, repositories or
/// appliances never share.
pub(super) fn build_tag(instance: &str, repo: &RepoName, content: &str) -> String {
    let mut slug = String::new();
    for c in repo.as_str().chars().map(|c| c.to_ascii_lowercase()) {
        // Docker allows single separators between letters or digits.
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.ends_with(|last: char| last.is_ascii_alphanumeric()) => {
                slug.push(if c == '/' { '/' } else { '-' })
            }
            '/' => {
                slug.pop();
                slug.push('/');
            }
            _ => {}
        }
    }
    let slug = slug.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let name = if slug.is_empty() { "repository" } else { slug };
    let digest = Sha256::digest(format!("{instance}\n{repo}\n{content}"));
    let tag = hex(&digest[..8]);
    format!("quire/{name}:{tag}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tags_are_legal_and_distinct() {
        let tag = |instance: &str, repo: &str, content: &str| {
            build_tag(instance, &repo.parse().unwrap(), content)
        };
        for (repo, name) in [
            ("foo", "quire/foo"),
            ("Work/Foo", "quire/work/foo"),
            ("a.-_b", "quire/a-b"),
            ("_", "quire/repository"),
            ("a_/b", "quire/a/b"),
        ] {
            assert_eq!(tag("i", repo, "c").split_once(':').unwrap().0, name);
        }
        let all = [
            tag("i", "foo", "c"),
            tag("j", "foo", "c"),
            tag("i", "Foo", "c"),
            tag("i", "foo", "d"),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4);
    }
}

//! The submodules of a commit, and where each comes from.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::GitError;
use super::git::Git;
use quire_types::names::{ObjectId, RepoName};
use quire_types::url_host::host_in_url;

/// The most submodules of one commit.
const MAX_SUBMODULES: usize = 500;

/// A submodule as its commit describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    /// Its folder in the commit.
    pub path: String,
    /// The commit that it is at.
    pub commit: ObjectId,
    /// The URL in `.gitmodules`.
    pub url: String,
}

/// Where a repository is: on this forge, or somewhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmoduleOrigin {
    Forge(RepoName),
    Url(String),
}

/// A host and port under which clients reach this forge by SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeAddress {
    pub host: String,
    pub port: u16,
}

impl ForgeAddress {
    /// The URL of a repository.
    #[must_use]
    pub fn url(&self, repo: &RepoName) -> String {
        let Self { host, port } = self;
        let host = host_in_url(host);
        match port {
            22 => format!("ssh://git@{host}/{repo}.git"),
            port => format!("ssh://git@{host}:{port}/{repo}.git"),
        }
    }
}

impl Git {
    /// The submodules that the `.gitmodules` of a commit names, in the order of their paths.
    pub async fn submodules(
        &self,
        repo: &Path,
        commit: &ObjectId,
    ) -> Result<Vec<Submodule>, GitError> {
        let urls = self.submodule_urls(repo, commit).await?;
        if urls.is_empty() {
            return Ok(Vec::new());
        }
        let fixed = ["-z", "--full-tree", commit.as_str(), "--"];
        let arguments = fixed.into_iter().chain(urls.keys().map(String::as_str));
        let listed = self.success(repo, "ls-tree", arguments).await?;
        let listed = String::from_utf8_lossy(&listed);
        // `MODE TYPE ID\tPATH`
        let submodule = |line: &str| {
            let (entry, path) = line.split_once('\t')?;
            let id = entry.strip_prefix("160000 commit ")?;
            Some(Submodule {
                path: path.to_owned(),
                commit: id.trim().parse().ok()?,
                url: urls.get(path)?.clone(),
            })
        };
        Ok(listed.split('\0').filter_map(submodule).collect())
    }

    /// The URLs in `.gitmodules` by their paths.
    async fn submodule_urls(
        &self,
        repo: &Path,
        commit: &ObjectId,
    ) -> Result<BTreeMap<String, String>, GitError> {
        let blob = format!("{commit}:.gitmodules");
        let arguments = ["-z", "--no-includes", "--blob", &blob, "--list"];
        // Git fails if there is no such file, and if it cannot be parsed.
        let listed = match self.success(repo, "config", arguments).await {
            Ok(listed) => listed,
            Err(GitError::Failed { .. }) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let listed = String::from_utf8_lossy(&listed);
        let mut values: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
        for entry in listed.split('\0') {
            let Some((key, value)) = entry.split_once('\n') else {
                continue;
            };
            let Some((name, key)) = key
                .strip_prefix("submodule.")
                .and_then(|rest| rest.rsplit_once('.'))
            else {
                continue;
            };
            let found = values.entry(name).or_default();
            match key {
                "path" => found.0 = Some(value),
                "url" => found.1 = Some(value),
                _ => {}
            }
        }
        let urls = values.into_values().filter_map(|(path, url)| {
            let path = path?.trim_end_matches('/');
            Some((path.to_owned(), url?.to_owned()))
        });
        Ok(urls.take(MAX_SUBMODULES).collect())
    }
}

impl SubmoduleOrigin {
    /// Where the URL of a submodule points, seen from the repository that names it.
    #[must_use]
    pub fn resolve(url: &str, parent: &Self, forge: &[ForgeAddress]) -> Self {
        if !is_relative(url) {
            return match forge_path(url, forge).and_then(repo_name) {
                Some(name) => Self::Forge(name),
                None => Self::Url(url.to_owned()),
            };
        }
        let other = || Self::Url(url.to_owned());
        match parent {
            Self::Forge(name) => join(name.as_str(), url)
                .as_deref()
                .and_then(repo_name)
                .map_or_else(other, Self::Forge),
            Self::Url(base) => match base.split_once("://") {
                Some((scheme, rest)) => match join(rest.trim_end_matches('/'), url) {
                    // The host is not a part of the path.
                    Some(joined) if joined.contains('/') => {
                        Self::Url(format!("{scheme}://{joined}"))
                    }
                    _ => other(),
                },
                None => other(),
            },
        }
    }
}

fn is_relative(url: &str) -> bool {
    url.starts_with("./") || url.starts_with("../")
}

/// Appends a relative URL to a path, as git does for submodules; `None` if it leads above the first part.
fn join(base: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn repo_name(path: &str) -> Option<RepoName> {
    path.parse().ok()
}

/// The path of a URL of this forge: `ssh://git@HOST[:PORT]/PATH` or `git@HOST:PATH`.
fn forge_path<'a>(url: &'a str, forge: &[ForgeAddress]) -> Option<&'a str> {
    let (host, port, path) = match url.split_once("://") {
        Some(("ssh" | "git+ssh", rest)) => {
            let (authority, path) = rest.split_once('/')?;
            let authority = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            let port = authority.rsplit_once(':').filter(|(host, port)| {
                (!host.contains(':') || host.ends_with(']'))
                    && port.bytes().all(|byte| byte.is_ascii_digit())
            });
            match port {
                Some((host, port)) => (host, port.parse().ok(), path),
                None => (authority, None, path),
            }
        }
        Some(_) => return None,
        None => {
            let (authority, path) = url.split_once(':')?;
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            (host, None, path.trim_start_matches('/'))
        }
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_ours = |address: &&ForgeAddress| {
        address.host.eq_ignore_ascii_case(host) && port.is_none_or(|port: u16| port == address.port)
    };
    forge.iter().find(is_ours).map(|_| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_submodules_are_resolved() {
        let forge = [ForgeAddress {
            host: "nas".to_owned(),
            port: 2222,
        }];
        let app = SubmoduleOrigin::Forge("work/app".parse().unwrap());
        let other = SubmoduleOrigin::Url("https://example.org/team/app.git".to_owned());
        for (parent, url, expected) in [
            (&app, "../lib", "work/lib"),
            (&app, "../lib.git", "work/lib"),
            (&app, "../../lib", "lib"),
            (&app, "ssh://git@nas:2222/lib.git", "lib"),
            (&app, "ssh://git@NAS/work/lib", "work/lib"),
            (&app, "git@nas:lib.git", "lib"),
            (&app, "nas:/lib", "lib"),
            (&other, "ssh://git@nas:2222/lib", "lib"),
        ] {
            let expected = SubmoduleOrigin::Forge(expected.parse().unwrap());
            assert_eq!(
                SubmoduleOrigin::resolve(url, parent, &forge),
                expected,
                "{url}"
            );
        }
        for (parent, url, expected) in [
            (&app, "../../../lib", "../../../lib"),
            (&app, "../../..", "../../.."),
            (&app, "ssh://git@nas:22/lib", "ssh://git@nas:22/lib"),
            (&app, "ssh://git@nas2/lib", "ssh://git@nas2/lib"),
            (&app, "https://nas/lib", "https://nas/lib"),
            (&app, "/srv/lib", "/srv/lib"),
            (&app, "git@nas:../../etc", "git@nas:../../etc"),
            (&other, "../lib.git", "https://example.org/team/lib.git"),
            (&other, "../../../../x", "../../../../x"),
        ] {
            let expected = SubmoduleOrigin::Url(expected.to_owned());
            assert_eq!(
                SubmoduleOrigin::resolve(url, parent, &forge),
                expected,
                "{url}"
            );
        }
    }
}

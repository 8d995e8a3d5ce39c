"""Clones, commits and pushes with another implementation of git: `clients.py dulwich|pygit2 URL FOLDER KEY`.

dulwich starts the ssh of GIT_SSH_COMMAND; libgit2 has a client of SSH of its own, which gets the key.
"""

import sys
from pathlib import Path

AUTHOR = "Client <client@example.org>"


def with_dulwich(url, folder, _key):
    from dulwich import porcelain

    tree = porcelain.clone(url, folder)
    Path(folder, "dulwich").write_text("made by dulwich\n")
    porcelain.add(tree, [str(Path(folder, "dulwich"))])
    porcelain.commit(tree, message=b"Commit of dulwich", author=AUTHOR.encode(), committer=AUTHOR.encode())
    porcelain.push(tree, url, b"HEAD:refs/heads/dulwich")
    porcelain.fetch(tree, url)


def with_pygit2(url, folder, key):
    import pygit2

    class Callbacks(pygit2.RemoteCallbacks):
        def credentials(self, _url, username, _allowed):
            return pygit2.Keypair(username, key + ".pub", key, "")

        def certificate_check(self, _certificate, _valid, _host):
            return True

        def push_update_reference(self, name, message):
            if message:
                sys.exit(f"{name}: {message}")

    repo = pygit2.clone_repository(url, folder, callbacks=Callbacks())
    Path(folder, "pygit2").write_text("made by libgit2\n")
    repo.index.add("pygit2")
    author = pygit2.Signature("Client", "client@example.org")
    tree = repo.index.write_tree()
    repo.create_commit("refs/heads/pygit2", author, author, "Commit of libgit2", tree, [repo.head.target])
    remote = repo.remotes["origin"]
    remote.push(["refs/heads/pygit2"], callbacks=Callbacks())
    remote.fetch(callbacks=Callbacks())


if __name__ == "__main__":
    name, url, folder, key = sys.argv[1:]
    {"dulwich": with_dulwich, "pygit2": with_pygit2}[name](url, folder, key)

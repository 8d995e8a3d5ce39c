;; quire's own pipeline. What needs a Docker engine, a browser or root is tested by
;; scripts/test: a run's container has none of these.
(local ci (require :quire.ci))

(ci.cache :cargo-registry "/usr/local/cargo/registry")
(ci.cache :target "target")
(ci.env {:CARGO_INCREMENTAL "0" :CARGO_TERM_COLOR "always"})

(local sources [:quire/push :quire/manual])

;; Scripts, Fennel, migrations and documents: four jobs that start at the same time
;; and take seconds.

(ci.job :scripts sources
  (fn [{: sh}]
    (sh "for script in scripts/* .ci/run .quire/links; do bash -n $script; done")
    (sh "shellcheck -x scripts/* .ci/run .quire/links $(find crates -name '*.sh')")))

(ci.job :fennel sources
  (fn [{: sh}]
    (let [found (sh "find . -name '*.fnl' -not -path '*/tests/*' -not -path './target/*' | sort")]
      (each [file (string.gmatch found.stdout "[^\n]+")]
        (sh (.. "fennel --compile " file " > /dev/null"))))))

(ci.job :migrations sources
  (fn [{: sh : artifact}]
    ;; A fresh database and every migration in order, as the first start does it.
    (sh "cat migrations/*.sql | sqlite3 -bail /tmp/quire.db")
    (let [check (sh "sqlite3 /tmp/quire.db 'PRAGMA integrity_check; PRAGMA foreign_key_check;'")
          tables (sh "sqlite3 /tmp/quire.db \"SELECT count(*) FROM sqlite_schema WHERE type = 'table'\"")]
      (assert (= check.stdout "ok\n") check.stdout)
      ;; The whole schema as it is after all of them, kept with the run.
      (sh "sqlite3 /tmp/quire.db .schema > schema.sql")
      (artifact "schema.sql")
      {:tables (tonumber tables.stdout)})))

(ci.job :docs sources
  (fn [{: sh}]
    (sh "bash .quire/links")))

;; Runs only when all four have passed; `jobs` returns what they returned. `run start quire
;; --job summary` runs these five without compiling anything.
(ci.job :summary [:scripts :fennel :migrations :docs]
  (fn [{: sh : jobs}]
    (let [commit (or (jobs :quire/push) (jobs :quire/manual))
          migrations (jobs :migrations)]
      (sh ["echo" (string.format "%s: %d tables, no broken link." (commit.sha:sub 1 12) migrations.tables)]))))

;; The Rust code. `rules` and `unit` take turns, since cargo locks its target folder.

(ci.job :format sources
  (fn [{: sh}]
    (sh ["cargo" "fmt" "--all" "--check"])))

(ci.job :lints [:format]
  (fn [{: sh}]
    ;; A file has the time of its commit. Cargo would take one that is older than what the cache
    ;; holds for unchanged, although another branch may have been compiled last.
    (sh "find . -path ./target -prune -o -type f -exec touch {} +")
    (sh ["cargo" "clippy" "--locked" "--workspace" "--all-targets" "--features" "faults" "--" "-D" "warnings"])))

(ci.job :rules [:lints]
  (fn [{: sh}]
    (sh ["cargo" "test" "--locked" "--test" "rules"])))

(ci.job :unit [:lints]
  (fn [{: sh}]
    (sh ["cargo" "test" "--locked" "--workspace" "--lib" "--bins"])))

;; quire's own pipeline: what can be checked of it with Debian's packages alone, in a
;; few seconds. The tests in Rust are run by scripts/test.
(local ci (require :quire.ci))

;; Four jobs that start at the same time.

(ci.job :scripts [:quire/push]
  (fn [{: sh}]
    (sh "for script in scripts/* .ci/run .quire/links; do bash -n $script; done")
    (sh "shellcheck -x scripts/* .ci/run .quire/links")))

(ci.job :fennel [:quire/push]
  (fn [{: sh}]
    (let [found (sh "find . -name '*.fnl' -not -path './tests/*' | sort")]
      (each [file (string.gmatch found.stdout "[^\n]+")]
        (sh (.. "fennel --compile " file " > /dev/null"))))))

(ci.job :migrations [:quire/push]
  (fn [{: sh : artifact}]
    ;; A fresh database and every migration in order, as the first start does it.
    (sh "cat migrations/*.sql | sqlite3 -bail /tmp/quire.db")
    (let [check (sh "sqlite3 /tmp/quire.db 'PRAGMA integrity_check; PRAGMA foreign_key_check;'")
          tables (sh "sqlite3 /tmp/quire.db \"SELECT count(*) FROM sqlite_schema WHERE type = 'table'\"")]
      (assert (= check.stdout "ok\n") check.stdout)
      ;; The whole schema as it stands after all of them, kept with the run.
      (sh "sqlite3 /tmp/quire.db .schema > schema.sql")
      (artifact "schema.sql")
      {:tables (tonumber tables.stdout)})))

(ci.job :docs [:quire/push]
  (fn [{: sh}]
    (sh "bash .quire/links")))

;; Runs only when all four are green; `jobs` gives what they returned.
(ci.job :summary [:scripts :fennel :migrations :docs]
  (fn [{: sh : jobs}]
    (let [push (jobs :quire/push)
          migrations (jobs :migrations)]
      (sh ["echo" (string.format "%s is fit to read: %d tables, all links lead somewhere."
                                 (push.sha:sub 1 12) migrations.tables)]))))

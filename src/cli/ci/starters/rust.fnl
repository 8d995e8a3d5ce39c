;; What quire runs after each push. `quire ci check` checks this file, `quire ci run`
;; runs it here, on the files as they are now.
(local ci (require :quire.ci))

;; The image that every command runs in.
(ci.image "rust:1")

;; Two jobs that wait only for the push, so they run at the same time.
(ci.job :lint [:quire/push]
  (fn [{: sh}]
    (sh "rustup component add rustfmt clippy")
    (sh ["cargo" "fmt" "--check"])
    (sh ["cargo" "clippy" "--all-targets" "--" "--deny" "warnings"])))

(ci.job :test [:quire/push]
  (fn [{: sh}]
    (sh ["cargo" "test"])))

;; A job after both, on one branch only:
;;
;; (ci.job :package [:lint :test] {:timeout "10m"}
;;   (fn [{: sh : jobs}]
;;     (let [push (jobs :quire/push)]
;;       (when (= push.branch "main")
;;         (sh ["cargo" "build" "--release"])))))
